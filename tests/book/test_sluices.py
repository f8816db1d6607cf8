"""What a trained sluice network shares, and what the released code computes."""

import numpy as np
import pytest
import torch
from torch import nn

from mtlbook.architectures.sluice_networks import Sluice, mix_subspaces
from mtlbook.book.experiments.sluices import (
    computed_features,
    explained,
    from_one_start,
    given_across,
    given_by_relevance,
    released_mixture,
)
from mtlbook.randomness import generator

pytestmark = pytest.mark.usefixtures("double")


def random(*shape, purpose="numbers"):
    return torch.randn(*shape, generator=generator(0, purpose))


def two_columns():
    stages = from_one_start(lambda: [nn.Linear(4, 4, bias=False)])
    return Sluice(stages, {name: nn.Linear(4, 1) for name in "AB"})


def test_columns_of_one_network_are_equal_and_apart():
    model = two_columns()
    first, second = (model.columns[name][0].weight for name in "AB")
    assert torch.equal(first, second)
    assert first is not second
    assert not torch.equal(first, two_columns().columns["A"][0].weight)


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
        torch.testing.assert_close(found[name][0], model.columns[name][0](x).detach())
    assert not any(stage._forward_hooks for stage in model.modules())


@pytest.mark.parametrize("common", [0, 1])
def test_the_subspace_that_serves_the_others_is_found(common):
    """Columns copy their inputs; the other task's true features are those of one half."""
    model, x = two_columns(), random(200, 4)
    with torch.no_grad():
        for name in "AB":
            model.columns[name][0].weight.copy_(torch.eye(4))
    alpha = torch.eye(4)
    alpha[2 + common, common] = alpha[common, 2 + common] = 1.0
    model.set_sharing([alpha], model.beta)
    features = {name: [x[:, 2 * common : 2 * common + 2].sin()] for name in "AB"}
    assert given_by_relevance(model, x, features) == pytest.approx((0.5, 0.0))
    features = {name: [x[:, 2 - 2 * common : 4 - 2 * common]] for name in "AB"}
    assert given_by_relevance(model, x, features) == pytest.approx((0.0, 0.5))


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
