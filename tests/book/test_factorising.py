"""Section 6.7's contestants: equal steps, starts that keep predictions, balanced errors."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from mtlbook.architectures.tensor_factorisation import TensorFactorisation
from mtlbook.book.data.worlds.low_rank_mixtures import low_rank_mixtures
from mtlbook.book.experiments import factorising
from mtlbook.book.experiments.factorising import Networks, contestants, networks_of, of_softmax
from mtlbook.book.experiments.networks import dense, mlp
from mtlbook.book.experiments.results import trained_network
from mtlbook.data.multi_task_data import Consecutive, Holdout
from mtlbook.training.fit import fit, fit_trials
from mtlbook.training.results import Fit
from mtlbook.training.sampling import Balanced
from mtlbook.training.selection import Selected, select
from mtlbook.training.settings import Settings, Trial

SEEDS = (7000, 7001)
NETWORKS = Networks(
    hidden=dense(6, 4), width=4, wide=dense(6, 8), wide_width=8, rank=2, steps=3, more_steps=4
)


@cache
def data(seed: int):
    return low_rank_mixtures(seed, rows=60, tasks=3, bases=2, apart=30, inputs=6).data


def train(build, trials, **settings: Any) -> dict[str, Fit]:
    common: dict[str, Any] = {
        "split": Consecutive(train=30, validation=10, test=20),
        "sampler": Balanced(4),
        "device": "cpu",
        "validate_every": 1,
    }
    trials = {name: Trial(**own) for name, own in trials.items()}
    settings_ = Settings(**common | settings)
    return fit_trials(build, data, seeds=SEEDS, trials=trials, settings=settings_)


@pytest.fixture(scope="module")
def found() -> dict[str, Selected]:
    return contestants(train, NETWORKS)


def test_everyone_takes_equally_many_steps_with_the_stage_before(found):
    steps = {
        name: {int(count) for fit in own.fits.values() for count in fit.cost.steps}
        for name, own in found.items()
    }
    later = {"single-task", "factorised", "rank K", "ranks of ε"}
    assert steps.pop("first stage") == {3}
    assert all(own == ({4} if name in later else {7}) for name, own in steps.items())


def test_trials_are_as_many_as_the_page_says(found):
    count = {name: len(own.fits) for name, own in found.items()}
    first = count["first stage"]
    assert first + count["single-task"] == first + count["factorised"] == count["best split"] == 6
    assert first + count["rank K"] == count["random start, rank K"] == 4


def test_a_single_task_network_goes_on_where_it_stopped(found):
    x = data(7000).inputs
    start = found["first stage"]
    model = factorising._split(data(7000), 0, networks=NETWORKS, shared=0).double()
    factorising._go_on(start, model, 7000)
    for name, network in networks_of(start, 7000).items():
        torch.testing.assert_close(model(x)[name], network(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("stack_last", [True, False])
def test_factors_of_full_rank_start_with_the_predictions_of_the_networks(found, stack_last):
    x, start = data(7000).inputs, found["first stage"]
    own = replace(NETWORKS, stack_last=stack_last)
    model = factorising._factors(data(7000), 0, networks=own, rank=None).double()
    factorising._factorise(start, stack_last, 0.0, model, 7000)
    for name, network in networks_of(start, 7000).items():
        torch.testing.assert_close(model(x)[name], network(x), rtol=0, atol=1e-12)


def test_each_tasks_network_is_that_of_its_own_trial_and_stopping_point(found):
    x = data(7001).inputs
    for name, network in networks_of(found["single-task"], 7001).items():
        whole = trained_network(found["single-task"], 7001, name)
        torch.testing.assert_close(network(x), whole(x)[name], rtol=0, atol=0)


def test_factors_have_the_rank_that_is_asked_for(found):
    trained = trained_network(found["rank K"], 7000)
    assert isinstance(trained, TensorFactorisation)
    for stack in trained.weights.values():
        assert int(torch.linalg.matrix_rank(stack.flatten(0, -2))) <= 2


def test_networks_start_from_equal_weights():
    model = factorising._split(data(7000), 0, networks=NETWORKS, shared=0)
    names = [f"branches.{task.name}" for task in data(7000).tasks]
    first, *others = (dict(model.get_submodule(name).named_parameters()) for name in names)
    for other in others:
        assert all(torch.equal(first[name], other[name]) for name in first)


def test_the_balanced_error_and_the_loss_count_both_classes_alike():
    said = torch.tensor([[1.0], [-1.0], [1.0], [-1.0], [-1.0]])
    true = torch.tensor([[1.0], [1.0], [0.0], [0.0], [0.0]])
    assert float(factorising._balanced_error(said, true)) == pytest.approx((1 / 2 + 1 / 3) / 2)
    never = torch.full((10, 1), -1.0)
    one_in_ten = torch.zeros(10, 1)
    one_in_ten[0] = 1.0
    assert float(factorising._balanced_error(never, one_in_ten)) == 0.5
    at_zero = factorising._balanced_logistic(torch.zeros(10, 1), one_in_ten)
    assert at_zero[0] == pytest.approx(9 * float(at_zero[1]))


def test_the_softmax_is_judged_on_the_rows_that_it_predicted():
    images = factorising.one_versus_rest()
    split = Holdout(train=60, validation=40, test=100)
    settings = Settings(tasks=["digit"], split=split, steps=60, learning_rate=0.02, device="cpu")
    trained = select({"": fit(mlp, images, seeds=[7000], settings=settings)})
    errors = of_softmax(trained)
    assert errors.shape == (1, 10)
    own = trained.fits[""]
    rows = torch.from_numpy(own.test[0])
    yes = torch.from_numpy(own.predictions["digit"][0]).softmax(1)[:, 3] > 0.1
    true = images.targets["is_3"][rows][:, 0] > 0.5
    by_hand = ((~yes[true]).double().mean() + yes[~true].double().mean()) / 2
    assert errors[0, 3] == pytest.approx(float(by_hand))
    assert np.all(errors < 0.5)
