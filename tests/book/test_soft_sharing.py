import math
from functools import partial

import numpy as np
import pytest
import torch

from mtlbook.book.experiments.soft_sharing import (
    ALL_LAYERS,
    Contest,
    choices,
    chosen,
    descent,
    look_into,
    network,
    pull,
    symbol,
)
from mtlbook.book.page import Page
from mtlbook.data import Holdout
from mtlbook.data.constructed import related_tasks
from mtlbook.sharing.soft import AbsoluteDistance, SquaredDistance, stacked_parameters
from mtlbook.training.context import StepContext

SPLIT = Holdout(train=10, validation=10, test=10)


def data(seed):
    return related_tasks(seed, tasks=3, rows=30, inputs=4, features=2).data


@pytest.fixture
def contest(monkeypatch, tmp_path):
    monkeypatch.setenv("MTLBOOK_OUTPUT", str(tmp_path))
    page = Page("3.2", {"seeds": 2, "first_seed": 5, "device": "cpu"})
    return Contest(page, data, 3, SPLIT, step_size=0.1, steps=10, width=4)


def same(first, second):
    for task in first.tasks:
        np.testing.assert_allclose(
            first.predictions[task.name], second.predictions[task.name], atol=1e-9
        )


def test_no_strength_is_networks_of_their_own(contest):
    (alone,) = contest.decayed([0.1]).values()
    pulled = contest.pulled(SquaredDistance, [0.0, 0.5], weight_decay=0.1)
    same(alone, pulled[0.0])
    with pytest.raises(AssertionError):
        same(alone, pulled[0.5])


@pytest.mark.parametrize("shared_layers", [0, 1])
def test_infinite_strength_is_one_network(contest, shared_layers):
    """Also above a layer that is shared outright, with its own step and weight decay."""
    (one,) = contest.decayed([0.1], shared_layers=ALL_LAYERS).values()
    pulled = contest.pulled(
        SquaredDistance, [math.inf], weight_decay=0.1, shared_layers=shared_layers
    )
    same(one, pulled[math.inf])


def test_a_scale_is_that_of_strengths_and_weight_decays(contest):
    scaled = Contest(contest.page, data, 3, SPLIT, 0.1, steps=10, width=4, scale=0.1)
    first = contest.pulled(SquaredDistance, [0.03], weight_decay=0.01)[0.03]
    second = scaled.pulled(SquaredDistance, [0.3], weight_decay=0.1)[0.3]
    same(first, second)
    same(contest.decayed([0.02])[0.02], scaled.decayed([0.2])[0.2])


def test_shared_layers_take_a_share_of_the_step():
    model = network(data(0), 0, width=4, shared_layers=1)
    named: list[tuple[str, torch.Tensor]]
    named = [(f"model.{name}", values) for name, values in model.named_parameters()]
    own, shared = descent(named, step_size=0.3, weight_decay=0.1, tasks=3).param_groups
    assert (own["lr"], own["weight_decay"]) == (0.3, 0.1)
    assert shared["lr"] * shared["weight_decay"] == pytest.approx(0.3 * 0.1)
    assert shared["lr"] == pytest.approx(0.1)
    assert sum(p.numel() for p in shared["params"]) == 4 * 4 + 4


def test_separate_networks_start_alike():
    stacks = stacked_parameters(network(data(0), 0), ["branches"])
    assert all(torch.equal(stack, stack[..., :1].expand_as(stack)) for stack in stacks.values())


def test_each_task_chooses_among_all_trials(contest):
    alone, one = (contest.decayed([0.0, 0.1], shared) for shared in (0, ALL_LAYERS))
    both = chosen(alone, one)
    assert list(both.fits) == ["0", "0.1", "0′", "0.1′"]
    for task in both.choices:
        losses = {n: fit.score(task, "loss", "validation") for n, fit in both.fits.items()}
        for row, name in enumerate(both.choices[task]):
            assert losses[name][row] == min(own[row] for own in losses.values())
    assert sum(choices(both, both.fits)) == pytest.approx(1)
    assert choices(both, ["never"]) == [0.0]


def test_other_seeds_can_be_trained(contest):
    few = Contest(contest.page, data, 3, SPLIT, 0.1, steps=2, width=4, seeds=[9])
    assert few.decayed([0.0])[0.0].seeds == (9,)


def test_strengths_have_short_names():
    assert [symbol(one) for one in (0.0, 1.0, 0.03, math.inf)] == ["0", "1", "0.03", "∞"]


def with_weights(first, second):
    """Two networks that differ in one weight of the first layer alone, and are else 0."""
    model = network(related_tasks(0, tasks=2, rows=5, inputs=3, features=2).data, 0, width=2)
    with torch.no_grad():
        for values in model.parameters():
            values.zero_()
        named = dict(model.named_parameters())
        for number, value in enumerate((first, second), start=1):
            named[f"branches.task_{number}.0.0.weight"][0, 0] = value
    return model


def test_a_look_into_networks_by_hand():
    parameters = 3 * 2 + 2 + 2 * 2 + 2 + 2 + 1
    look = look_into(with_weights(3.0, -3.0))
    assert look["distance"] == pytest.approx(6 / 3)  # |3 − (−3)| over the length of either
    assert look["equal"] == pytest.approx(1 - 1 / parameters)
    assert look["rank"] == 1


def test_what_is_tied_looks_equal(contest):
    tied = contest.pulled(AbsoluteDistance, [100.0])[100.0].model(5, "task_1")
    assert look_into(tied) == {"distance": 0.0, "equal": 1.0, "rank": 1.0}


def test_a_step_size_reaches_the_proximal_map():
    """Stacks are shrunk by η λ, whatever the rate of the first group of parameters is."""
    context = StepContext(step=0, steps=1, tasks=("task_1", "task_2"), learning_rate=9.0)
    model = with_weights(1.0, 0.0)
    new = partial(pull, penalty=SquaredDistance(0.5), step_size=0.2)(model, context)
    values = [new[f"branches.task_{n}.0.0.weight"][0, 0].item() for n in (1, 2)]
    assert values == pytest.approx([0.5 + 0.5 / 1.4, 0.5 - 0.5 / 1.4])  # 1 + 2 T η λ = 1.4
