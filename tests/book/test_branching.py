"""The contestants of section 6.2: equal steps, starts and trials."""

from functools import cache

import pytest
import torch

from mtlbook.architectures.fully_adaptive_sharing import affinity
from mtlbook.book.data.worlds.layered_groups import layered_groups
from mtlbook.book.experiments import dense
from mtlbook.book.experiments.branching import Branching
from mtlbook.data import Holdout


@cache
def data(seed):
    return layered_groups(seed, rows=120, tasks=4, groups=2, inputs=5).data


TASKS = Branching(
    seeds=range(2),
    device="cpu",
    data=data,
    split=Holdout(train=60, validation=30, test=30),
    stages=lambda width: dense(5, width, width),
    width=3,
    wide=7,
    steps=16,
    alphas=(10.0, 100.0),
    batch=8,
)


@pytest.fixture(scope="module")
def grown():
    return TASKS.grown()


def steps_of(trained):
    return {int(own) for fit in trained.fits.values() for own in fit.cost.steps}


def test_the_phases_are_all_steps():
    assert TASKS.phases == [2, 6, 4, 4]
    assert sum(TASKS.phases) == TASKS.steps


def test_everyone_has_two_trials_and_as_many_steps(grown):
    assert len(grown.fits.fits) == 2
    assert steps_of(grown.fits) == {4}  # behind phases of 2, 6 and 4 steps
    assert steps_of(TASKS.wide_network) == {2}
    assert steps_of(TASKS.thin) == {6}
    for trained, steps in (
        (TASKS.single_task(), 16),
        (TASKS.best_split(), 16 - 2 - 6),
        (TASKS.hard_sharing(grown.sizes), 16 - 2),
        (TASKS.random(grown).fits, 4),
    ):
        assert len(trained.fits) == 2
        assert steps_of(trained) == {steps}


def test_random_trees_have_the_shapes_of_the_grown_ones(grown):
    random = TASKS.random(grown)
    for alpha, plans in grown.plans.items():
        for own, theirs in zip(plans, random.plans[alpha], strict=True):
            for seed in TASKS.seeds:
                assert own[seed].shape == theirs[seed].shape
    name = next(iter(random.fits.fits))
    for seed in TASKS.seeds:
        model = random.fits.fits[name].model(seed)
        assert model.tree == random.plans[10.0][-1][seed]


def test_a_dissimilar_group_costs_more_at_a_larger_alpha(grown):
    for seed in TASKS.seeds:
        few, many = (grown.plans[alpha][0][seed].shape[-1] for alpha in TASKS.alphas)
        assert few <= many


def test_silent_units_change_nothing():
    rows = TASKS.training_rows(0)
    torch.manual_seed(0)
    own = TASKS.cut(rows, 0, 4)
    torch.manual_seed(0)
    padded = TASKS.padded(rows, 0, widths={0: 4}, room=6)
    padded, own = padded.double(), own.double()
    for name, expected in own(rows.inputs).items():
        torch.testing.assert_close(padded(rows.inputs)[name], expected)
    optimiser = torch.optim.Adam([p for p in padded.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        torch.stack(list(padded(rows.inputs).values())).square().sum().backward()
        optimiser.step()
    weight = padded.get_parameter("branches.1.0.0.weight")
    assert not bool(weight[4:].any())
    assert not bool(weight[:, 4:].any())
    assert bool(weight[:4, :4].all())


def test_the_width_has_the_nearest_number_of_parameters():
    rows = TASKS.training_rows(0)
    sizes = {width: TASKS.trunk(rows, width).size for width in range(1, 9)}
    for width, size in sizes.items():
        assert TASKS.width_of(size) == width
    middle = (sizes[4] + sizes[5]) // 2
    assert TASKS.width_of(middle - 2) == 4
    assert TASKS.width_of(middle + 2) == 5


def test_affinities_are_those_of_the_thin_networks_on_training_rows():
    found = TASKS.affinities()
    fit = TASKS.thin.fits[TASKS.thin.choices.loc[1].iloc[0]]
    assert found.shape == (2, 4, 4)
    margins = TASKS.margins(1, fit.model(1))
    assert margins.shape == (60, 4)
    assert bool((margins < 1).all())
    assert torch.equal(found[1], affinity(margins))


def test_the_agreement_is_one_for_the_tree_itself(grown):
    own = grown.tree(0).groups[-1]
    assert grown.agreement(own)[0] == 1
