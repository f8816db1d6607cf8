"""The league's rules: equal trials and steps, costs, and the worlds that it is played in."""

from functools import cache
from math import e

import pytest
import torch
from torch import nn

from mtlbook.architectures.fully_adaptive_sharing import TreeNetwork
from mtlbook.architectures.tensor_factorisation import TensorFactorisation
from mtlbook.book.experiments import league
from mtlbook.book.experiments.league import CONTESTANTS, LAYERS, RATES, WIDTH, Entry, Match
from mtlbook.book.experiments.league_worlds import WORLDS, World
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.tasks import Task

STEPS, SEEDS = 6, (7000, 7001)
IN_STAGES = {"cross-stitch": 2, "factorisation": 2, "tree": 1 + LAYERS}


def small(tasks: int = 3, *, same_rows: bool = True) -> World:
    """Regressions that are sums of some inputs."""

    @cache
    def data(seed: int) -> MultiTaskData:
        x = torch.randn(60, 5, generator=torch.Generator().manual_seed(seed)).double()
        names = [f"task_{number}" for number in range(tasks)]
        targets = {name: x[:, n : n + 2].sum(1) for n, name in enumerate(names)}
        return MultiTaskData.multi_label([Task.regression(name) for name in names], x, targets)

    split = Holdout(train=30, validation=15, test=15)
    return World(name="small", data=data, split=split, batch=10, same_rows=same_rows)


def match(**options) -> Match:
    world = small(**options.pop("world", {}))
    return Match(world=world, seeds=SEEDS, steps=STEPS, **options)


@pytest.fixture(scope="module")
def entries() -> dict[str, Entry]:
    own = match()
    return {name: each.enter(own) for name, each in CONTESTANTS.items()}


@pytest.mark.parametrize("name", CONTESTANTS)
def test_everyone_has_four_trials_and_the_same_steps(entries, name):
    fits = entries[name].chosen.fits
    assert len(fits) == 4
    assert {rate for rate in RATES for trial in fits if f"rate {rate:g}," in trial} == set(RATES)
    steps = {int(own) for fit in fits.values() for own in fit.cost.steps}
    assert steps == {STEPS // IN_STAGES.get(name, 1)}


def test_single_task_networks_choose_each_for_itself(entries):
    for name in ("single-task", "wide single-task"):
        assert entries[name].losses().shape == (2, 3)
        assert entries[name].chosen.choices.shape == (2, 3)


def test_costs_are_those_of_the_layers(entries):
    own = 5 * WIDTH + WIDTH * WIDTH + WIDTH  # weights of a task's network
    biases = 2 * WIDTH + 1
    assert entries["single-task"].parameters == 3 * (own + biases)
    assert entries["single-task"].inference == 2 * 3 * own
    wide = 3 * WIDTH
    assert entries["wide single-task"].inference == 2 * 3 * (5 * wide + wide**2 + wide)
    # Four trials, six steps of ten rows, three times the forward pass.
    assert entries["single-task"].training == 4 * STEPS * 10 * 3 * (2 * 3 * own)
    narrow, double = (5 * w + w * w + 3 * w for w in (WIDTH, 2 * WIDTH))
    assert entries["hard sharing"].inference == narrow + double  # 2 × the mean of both


def test_networks_that_go_on_count_what_they_went_on_from(entries):
    single, units = entries["single-task"], entries["cross-stitch"]
    mixing = 2 * LAYERS * 3 * 3 * WIDTH  # operations of the units
    half = STEPS // 2 * 10 * 3
    first = len(RATES) * half * single.inference
    assert units.training == first + 4 * half * (single.inference + mixing)


def test_equal_operations_mean_fewer_steps_for_larger_networks():
    own = match(budget="FLOPs")
    steps = {
        name: next(iter(CONTESTANTS[name].enter(own).chosen.fits.values())).cost.steps[0]
        for name in ("single-task", "wide single-task", "hard sharing", "soft L2")
    }
    assert steps["single-task"] == steps["soft L2"] == STEPS
    assert steps["wide single-task"] == 1
    assert STEPS < steps["hard sharing"] <= league.MOST_STEPS * STEPS


def test_the_single_task_stage_is_played_once():
    own = match()
    other = own.with_equal_operations()
    assert other.budget == "FLOPs"
    assert "single" not in other.__dict__
    stage = own.single
    assert own.with_equal_operations().single is stage
    assert own.single is stage


def test_columns_start_from_single_task_networks():
    own = match(dtype=torch.float64)
    networks = own.networks(SEEDS[0])
    model = TensorFactorisation(own.stages(), own.heads()).double()
    model.factorise(networks)
    own.columns(model, SEEDS[0])
    x = own.data(SEEDS[0]).inputs
    for task in own.tasks:
        head = own.single[0].fits[str(own.single[0].choices.loc[SEEDS[0], task.name])]
        expected = head.model(SEEDS[0], task.name)(x)[task.name]
        torch.testing.assert_close(model(x)[task.name], expected, rtol=1e-10, atol=1e-10)


def test_a_tree_without_common_rows_stays_a_trunk():
    own = match(world={"same_rows": False})
    model = TreeNetwork(own.stages(), own.heads())
    assert torch.equal(own.affinity(model, SEEDS[0]), torch.ones(3, 3).double())
    entry = CONTESTANTS["tree"].enter(own)
    whole = nn.Sequential(*own.stages()(), *own.heads().values())
    assert entry.parameters == sum(values.numel() for values in whole.parameters())


def test_affinity_is_that_of_equal_tasks():
    own = match(world={"tasks": 2})
    model = TreeNetwork(own.stages(), own.heads()).double()
    found = own.affinity(model, SEEDS[0])
    assert found.diagonal().tolist() == [1.0, 1.0]
    assert 0 <= float(found[0, 1]) < 1


@pytest.mark.parametrize(
    ("task", "prediction", "target", "margin"),
    [
        (Task.classification("a", classes=2), [0.0, 2.0], torch.tensor([1]), 1 / (1 + e**2)),
        (Task.binary("a"), [2.0], torch.zeros(1, 1), 1 / (1 + e**-2)),
        (Task.regression("a"), [2.0], torch.tensor([[0.5]]), 1.5),
    ],
)
def test_margins_compare_a_probability_with_the_label(task, prediction, target, margin):
    own, known = league._sides(task, torch.tensor([prediction]), target)
    assert float((own - known).abs()) == pytest.approx(margin)


@pytest.mark.parametrize("name", [n for n in WORLDS if n not in ("Jura metals", "adult census")])
def test_a_world_has_flat_inputs_a_split_that_fits_and_one_kind_of_task(name):
    world = WORLDS[name]()
    assert world.name == name
    assert set(world.homes) <= set(CONTESTANTS)
    assert bool(world.homes) != world.real
    data = world.data(7000)
    assert data.inputs.ndim == 2
    assert len({task.kind for task in data.tasks}) == 1
    drawn = world.split.draw(data, 7000)
    marks = torch.stack([own[drawn.train] for own in drawn.labelled.values()])
    assert bool(marks.all(0).any()) == world.same_rows
    assert all(bool(own.any()) for own in marks)


@pytest.mark.parametrize(
    ("name", "files", "columns"), [("Jura metals", "mulan_mtr", 15), ("adult census", "adult", 0)]
)
def test_a_downloaded_world_is_scaled(name, files, columns, downloaded):
    downloaded(files)
    world = WORLDS[name]()
    data = world.data(7000)
    assert data.inputs.shape[1] == columns or not columns
    train = data.inputs[world.split.draw(data, 7000).train][:, :4]
    torch.testing.assert_close(train.mean(0), torch.zeros(4).double(), rtol=0, atol=1e-9)
