"""What a trained sluice network shares, and what the released code computes."""

import numpy as np
import pytest
import torch
from torch import nn

from mtlbook.architectures import sluice_special_cases as cases
from mtlbook.architectures.sluice_networks import Sluice, mix_subspaces
from mtlbook.book.experiments.networks import dense
from mtlbook.book.experiments.sluices import (
    by_relevance,
    computed_features,
    cross_stitch_of,
    explained,
    from_one_start,
    given_across,
    hard_sharing_of,
    held,
    largest_difference,
    low_supervision_of,
    ranked,
    reductions,
    released_mixture,
    shares_given,
    with_shuffled,
)
from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.randomness import generator
from mtlbook.tasks import Task

pytestmark = pytest.mark.usefixtures("double")


def random(*shape, purpose="numbers"):
    return torch.randn(*shape, generator=generator(0, purpose))


def two_columns():
    stages = from_one_start(lambda: [nn.Linear(4, 4, bias=False)])
    return Sluice(stages, {name: nn.Linear(4, 1) for name in "AB"})


def test_columns_of_one_network_are_equal_and_apart():
    model = two_columns()
    first, second = (model.get_parameter(f"columns.{name}.0.weight") for name in "AB")
    assert torch.equal(first, second)
    assert first is not second
    assert not torch.equal(first, two_columns().get_parameter("columns.A.0.weight"))


def test_shares_of_what_is_given():
    alpha = random(6, 6)
    found = given_across(alpha, 2)
    for giver in range(3):
        for part in range(2):
            given = alpha[:, 2 * giver + part].abs()
            own = given[2 * giver : 2 * giver + 2].sum()
            assert float(found[giver, part]) == pytest.approx(float(1 - own / given.sum()))
    assert given_across(torch.eye(4), 2).tolist() == [[0, 0], [0, 0]]


def test_variance_explained():
    units, noise = random(500, 3), random(500, 1, purpose="noise")
    linear = units @ random(3, 1, purpose="weights") + 5
    assert explained(units, linear) == pytest.approx(1.0)
    assert explained(units, noise) < 0.05


def test_computed_features_lie_in_front_of_alpha():
    model, x = two_columns(), random(5, 4)
    found = computed_features(model, x)
    for name in "AB":
        torch.testing.assert_close(
            found[name][0], model.get_submodule(f"columns.{name}.0")(x).detach()
        )
    assert not any(stage._forward_hooks for stage in model.modules())


@pytest.mark.parametrize("common", [0, 1])
def test_the_subspace_that_serves_the_others_is_found(common):
    """Columns copy their inputs; the other task's true features are those of one half."""
    model, x = two_columns(), random(200, 4)
    with torch.no_grad():
        for name in "AB":
            model.get_parameter(f"columns.{name}.0.weight").copy_(torch.eye(4))
    alpha = torch.arange(16.0).view(4, 4)
    model.set_sharing([alpha], model.beta)
    features = {name: [x[:, 2 * common : 2 * common + 2].sin()] for name in "AB"}
    order = [common, 1 - common, 2 + common, 3 - common]
    assert torch.equal(by_relevance(model, x, features)[0], alpha[order][:, order])
    assert ranked([1.0, 3.0, 2.0]) == [1, 2, 0]


def test_shuffled_labels_are_those_of_other_rows_that_carry_one():
    tasks = [Task.regression("main"), Task.regression("other")]
    targets = {task.name: torch.arange(20.0)[:, None] for task in tasks}
    marks = {"main": torch.ones(20, dtype=torch.bool), "other": torch.arange(20) >= 10}
    data = MultiTaskData.partial(tasks, random(20, 3), targets, marks)
    shuffled = with_shuffled(data, 0, ["other"])
    assert torch.equal(shuffled.targets["main"], data.targets["main"])
    before, after = data.targets["other"][10:], shuffled.targets["other"][10:]
    assert not torch.equal(before, after)
    assert torch.equal(before, after.sort(0).values)
    assert torch.equal(
        shuffled.targets["other"], with_shuffled(data, 0, ["other"]).targets["other"]
    )


# The released code --------------------------------------------------------------------------------


@pytest.mark.parametrize(("tasks", "subspaces"), [(2, 1), (2, 2), (3, 2)])
def test_the_released_code_reshapes_in_fortrans_order(tasks, subspaces):
    """As NumPy does it when it is asked for DyNet's order."""
    units, parts = 12, tasks * subspaces
    states, alpha = random(tasks, units), random(parts, parts, purpose="alpha")
    columns = states.numpy().T
    product = alpha.numpy() @ columns.reshape((parts, units // subspaces), order="F")
    expected = product.reshape((tasks, units), order="F")
    np.testing.assert_allclose(released_mixture(alpha, list(states)), expected, atol=1e-12)


def test_with_the_identity_the_released_code_interleaves_the_tasks():
    states = [torch.arange(8.0), 10 + torch.arange(8.0)]
    expected = [[0, 2, 4, 6, 10, 12, 14, 16], [1, 3, 5, 7, 11, 13, 15, 17]]
    assert released_mixture(torch.eye(4), states).tolist() == expected
    of_the_equation = mix_subspaces(torch.eye(4), [own[None] for own in states], 2)
    assert torch.equal(of_the_equation[0][0], states[0])


def test_its_alpha_mixes_nothing_across_tasks():
    """Each of its outputs depends on one task alone, whatever α is."""
    states, alpha = random(2, 8), random(4, 4, purpose="alpha")
    jacobian = torch.autograd.functional.jacobian(
        lambda own: released_mixture(alpha, list(own)), states
    )
    depends = jacobian.abs().sum(3) > 0  # (task of the output, unit, task of the input)
    assert (depends.sum(2) == 1).all()
    assert depends[:, :4, 0].all()
    assert depends[:, 4:, 1].all()


# The older networks -------------------------------------------------------------------------------


@pytest.mark.parametrize("branch_at", [0, 1, 2])
def test_older_networks_get_the_weights_of_a_sluice_network(branch_at):
    stages, x = dense(5, 4, 4), random(7, 5)
    model = Sluice(stages, {name: nn.Linear(4, 2) for name in "ABC"})
    model.set_sharing(*cases.hard_sharing(3, 2, shared=branch_at))
    assert largest_difference(model, hard_sharing_of(model, stages, branch_at), x) < 1e-12
    assert largest_difference(model, hard_sharing_of(model, stages, 2 - branch_at), x) > 1e-3 or (
        branch_at == 1
    )
    units = [random(3, 3, purpose=name) for name in "12"]
    model.set_sharing(*cases.cross_stitch(units))
    assert largest_difference(model, cross_stitch_of(model, stages, units), x) < 1e-12
    model.set_sharing(*cases.low_supervision([2, 1, 2], 2))
    assert largest_difference(model, low_supervision_of(model, stages, {"B": 1}), x) < 1e-12


def test_what_is_held():
    tasks = [Task.regression(name) for name in "AB"]
    targets = {name: random(8, 1, purpose=name) for name in "AB"}
    data = MultiTaskData.multi_label(tasks, random(8, 5), targets)
    pattern = cases.private_and_shared(2, 2)
    layers, both = (
        held(data, 0, stages=dense(5, 4, 4), width=4, alpha=own) for own in (False, True)
    )
    assert isinstance(layers, Sluice)
    assert isinstance(both, Sluice)
    assert torch.equal(layers.beta, pattern.beta)
    assert layers.get_buffer("units.0.free").all()
    assert not both.get_buffer("units.0.free").any()
    assert torch.equal(both.alpha[1], pattern.alpha[1])


def test_shares_are_means_over_columns_and_layers():
    alphas = random(3, 2, 4, 4)
    found = shares_given(alphas)
    expected = torch.stack([given_across(own, 2).mean(0) for own in alphas[1]]).mean(0)
    torch.testing.assert_close(found[:, 1], expected)


def test_reductions_over_all_tasks_and_of_each():
    losses = {
        "single-task": np.array([[2.0, 10.0], [2.0, 10.0]]),
        "sluice": np.array([[1.0, 10.0], [1.0, 10.0]]),
    }
    found = reductions(losses, ["sluice"], "AB")
    assert {names: own.estimate for names, own in found.items()} == pytest.approx(
        {("all tasks", "sluice"): 25.0, ("task A", "sluice"): 50.0, ("task B", "sluice"): 0.0}
    )
