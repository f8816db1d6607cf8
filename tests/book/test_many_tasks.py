"""The contestants of section 6.5: their networks, losses, passes and budgets."""

from functools import partial

import pytest
import torch
from torch import nn

from mtlbook.architectures.joint_many_task import SuccessiveRegularisation
from mtlbook.book.data.worlds.layered_tagging import layered_tagging
from mtlbook.book.experiments.cost import parameters
from mtlbook.book.experiments.many_tasks import (
    LABEL,
    UNITS,
    WORD,
    Levels,
    ShuffledPasses,
    alone,
    descent,
    falling,
    many_tasks,
    own_losses,
    single_taggers,
    split_tagger,
)
from mtlbook.book.page import Page
from mtlbook.data import Holdout
from mtlbook.training.fit import fit
from mtlbook.training.pool import Pool
from mtlbook.training.sampling import Passes
from mtlbook.training.settings import Settings

NAMES = ("low", "middle", "top")
SPLIT = Holdout(24, 8, 16, labels={"middle": 16, "top": 8})
SEEDS = [7000, 7001]


def data(seed=0):
    return layered_tagging(seed, rows=60, tasks=NAMES, words=6, tags=3, length=5).data


BUILDS = {
    "joint": many_tasks,
    "no labels": partial(many_tasks, labels=False),
    "no vertical": partial(many_tasks, vertical=False),
    "single": single_taggers,
    "split": partial(split_tagger, shared=2),
}


@pytest.fixture
def levels(tmp_path, monkeypatch):
    monkeypatch.setenv("MTLBOOK_OUTPUT", str(tmp_path))
    notebook = {"seeds": 2, "first_seed": 7000, "device": "cpu"}
    return Levels(
        page=Page("6.5", notebook), data=data, tasks=data().tasks, split=SPLIT, vocabulary=7,
        rounds=2, batch=8,
    )  # fmt: skip


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
def test_a_task_alone_is_predicted_as_among_all(build):
    model, inputs = build(data(), 0, vocabulary=7), data().inputs
    for own in model.parameters():
        nn.init.normal_(own)
    every = model(inputs)
    assert list(every) == list(NAMES)
    for name, prediction in every.items():
        assert prediction.shape == (60, 3, 5)
        torch.testing.assert_close(alone(model, inputs, name), prediction)


def test_own_losses_train_as_the_default_does():
    def trained(objective):
        settings = Settings(
            split=SPLIT, steps=6, sampler=Passes(8), objective=objective, stopping=None,
            device="cpu", optimiser=partial(descent, rate=0.5),
            regulariser=SuccessiveRegularisation(0.1, 0.1),
        )  # fmt: skip
        build = partial(many_tasks, vocabulary=7)
        return fit(build, data, seeds=SEEDS, settings=settings).model(7001).state_dict()

    default = trained(None)
    for name, own in trained(own_losses(data().tasks)).items():
        torch.testing.assert_close(own, default[name], rtol=1e-10, atol=1e-12)


def test_the_networks_have_the_sizes_that_the_page_tells():
    words, head = 7 * WORD, 3 * (UNITS + 1)

    def window(inputs):
        return UNITS * (3 * inputs + 1)

    joint = words + window(WORD) + 2 * window(UNITS + WORD + LABEL) + 3 * head + 2 * 3 * LABEL
    assert parameters(many_tasks(data(), 0, vocabulary=7)) == joint
    deep = (
        window(WORD) + 3 * window(WORD + LABEL) + (1 + 2 + 0) * window(UNITS) - window(WORD + LABEL)
    )
    assert parameters(many_tasks(data(), 0, vocabulary=7, vertical=False)) == (
        words + deep + 3 * head + 2 * 3 * LABEL
    )
    each = [words + window(WORD) + depth * window(UNITS) + head for depth in range(3)]
    assert parameters(single_taggers(data(), 0, vocabulary=7)) == sum(each)
    hard = words + window(WORD) + 2 * window(UNITS) + 3 * head
    assert parameters(split_tagger(data(), 0, vocabulary=7, shared=3)) == hard


def test_heads_start_at_nothing():
    for build in BUILDS.values():
        made = build(data(), 0, vocabulary=7)(data().inputs)
        assert not any(bool(own.any()) for own in made.values())


def test_each_round_of_shuffled_passes_is_a_permutation_of_whole_passes():
    pool = Pool(data, SPLIT, SEEDS, None, torch.device("cpu"), torch.float64)
    plan = ShuffledPasses(8, rounds=50).plan(pool, SEEDS)
    orders = set()
    for start in range(0, 300, 6):
        turns = [plan.turn(step) for step in range(start, start + 6)]
        order = [turn.streams[0] for turn in turns if turn.begins]
        assert sorted(order) == sorted(NAMES)
        lengths = {"low": 3, "middle": 2, "top": 1}
        assert [turn.streams[0] for turn in turns] == [n for n in order for _ in range(lengths[n])]
        orders.add(tuple(order))
    assert len(orders) == 6
    again = ShuffledPasses(8, rounds=50).plan(pool, SEEDS)
    assert [again.turn(n) for n in range(300)] == [plan.turn(n) for n in range(300)]


def test_the_rate_falls_by_round():
    rates = [falling(step / 12, rounds=3) for step in range(12)]
    assert rates == pytest.approx([1.0] * 4 + [1 / 1.3] * 4 + [1 / 1.6] * 4)


def test_all_contestants_take_equal_steps_and_trials(levels):
    assert levels.of_round == 6
    joint = levels.joint()
    single, split = levels.single_task(), levels.best_split(2.0, (2, 3))
    assert len(joint) == len(single.fits) == len(split.fits) == 2
    every = [*joint.values(), *single.fits.values(), *split.fits.values(), levels.shuffled(2.0)]
    assert {int(n) for own in every for n in own.cost.steps} == {12}
    assert levels.shuffled(2.0, together=1).seeds == (7000, 7001)


def test_no_task_has_a_trial_that_others_chose(levels):
    single = levels.single_task()
    assert list(single.choices.columns) == list(NAMES)


def test_the_anchor_is_the_only_difference(levels):
    held, free = levels.anchored(2.0, 0.3), levels.anchored(2.0, 0.0)
    assert (free["anchored"].score("top", "loss") == free["plain"].score("top", "loss")).all()
    assert (held["plain"].score("top", "loss") == free["plain"].score("top", "loss")).all()
    assert (held["anchored"].score("top", "loss") != free["plain"].score("top", "loss")).all()
