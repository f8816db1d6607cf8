"""The rules that take logarithms of losses, and the smooth Chebyshev scalarisation."""

import pytest
import torch

from mtlbook.combiner import Combiner, Evidence
from mtlbook.errors import UsageError
from mtlbook.tasks import Task
from mtlbook.weighting.chebyshev import SmoothChebyshev
from mtlbook.weighting.geometric import GeometricMean, SumOfLogarithms
from mtlbook.weighting.impartial_scaling import IMTLL
from mtlbook.weighting.uncertainty import UncertaintyWeighting

LOSSES = torch.tensor([20.0, 0.03, 1.5], dtype=torch.float64)
NAMES = ("a", "b", "c")


def gradient(combiner: Combiner, losses: torch.Tensor = LOSSES) -> torch.Tensor:
    own = losses.clone().requires_grad_()
    return torch.autograd.grad(combiner(own), own)[0]


def test_the_sum_of_logarithms_has_the_inverse_losses_as_weights():
    assert float(SumOfLogarithms(NAMES)(LOSSES)) == pytest.approx(float(LOSSES.log().sum()))
    torch.testing.assert_close(gradient(SumOfLogarithms(NAMES)), 1 / LOSSES)


def test_the_geometric_mean_has_its_own_gradient():
    own = LOSSES.clone().requires_grad_()
    expected = torch.autograd.grad(own.prod() ** (1 / 3), own)[0]
    torch.testing.assert_close(gradient(GeometricMean(NAMES)), expected)
    # The value that is minimised is, too: Σ_t w_t L_t.
    torch.testing.assert_close(GeometricMean(NAMES)(LOSSES), LOSSES.prod() ** (1 / 3))


def test_many_small_losses_leave_no_range():
    many = torch.full((400,), 1e-3, dtype=torch.float64)
    names = [f"{n}" for n in range(400)]
    assert float(many.prod()) == 0
    torch.testing.assert_close(gradient(GeometricMean(names), many), torch.full_like(many, 1 / 400))


def test_tasks_without_a_label_do_not_count():
    labelled = torch.tensor([True, False, True])
    losses = torch.tensor([4.0, -1.0, 1.0], dtype=torch.float64)
    found = GeometricMean(NAMES).weigh(Evidence(losses, labelled))
    torch.testing.assert_close(found, torch.tensor([0.25, 0, 1.0], dtype=torch.float64))
    found = SmoothChebyshev(NAMES).weigh(Evidence(losses, labelled))
    assert found[1] == 0


@pytest.mark.parametrize("rule", [SumOfLogarithms, GeometricMean])
def test_a_loss_without_a_logarithm_is_refused_by_its_task(rule):
    with pytest.raises(UsageError, match=r"'b' is -2"):
        rule(NAMES)(torch.tensor([1.0, -2.0, 3.0]))


def test_impartial_scales_are_twice_the_uncertainty_of_regressions():
    tasks = [Task.regression(name) for name in NAMES]
    ours, theirs = IMTLL(tasks, torch.float64), UncertaintyWeighting(tasks, dtype=torch.float64)
    s = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    with torch.no_grad():
        ours.log_scales.copy_(s)
        theirs.log_variances.copy_(-s)
    torch.testing.assert_close(ours(LOSSES), 2 * theirs(LOSSES))
    with torch.no_grad():
        ours.log_scales.copy_(-LOSSES.log())
    (slope,) = torch.autograd.grad(ours(LOSSES), [ours.log_scales])
    torch.testing.assert_close(slope, torch.zeros(3, dtype=torch.float64))


def test_the_smooth_chebyshev_s_gradient_is_its_weights():
    preferences, ideal, mu = (
        torch.tensor([0.5, 2.0, 1.0]).double(),
        torch.tensor([1.0, 0, 0.5]),
        0.7,
    )
    rule = SmoothChebyshev(NAMES, mu, preferences.tolist(), ideal.tolist())
    own = LOSSES.clone().requires_grad_()
    value = mu * torch.logsumexp(preferences * (own - ideal) / mu, 0)
    torch.testing.assert_close(gradient(rule), torch.autograd.grad(value, own)[0])


def test_its_limits_are_the_largest_loss_and_the_weighted_sum():
    sharp, flat = SmoothChebyshev(NAMES, 1e-6), SmoothChebyshev(NAMES, 1e6)
    torch.testing.assert_close(gradient(sharp), torch.tensor([1 / 3, 0, 0], dtype=torch.float64))
    torch.testing.assert_close(
        gradient(flat), torch.full((3,), 1 / 9, dtype=torch.float64), rtol=1e-4, atol=0
    )


@pytest.mark.parametrize(
    ("dials", "cause"),
    [
        ({"smoothness": 0.0}, "smoothness"),
        ({"preferences": [1.0, 1.0]}, "3 tasks"),
        ({"preferences": [1.0, 0.0, 1.0]}, "preferences"),
        ({"ideal": [0.0]}, "3 tasks"),
    ],
)
def test_a_dial_out_of_range_is_named(dials, cause):
    with pytest.raises(UsageError, match=cause):
        SmoothChebyshev(NAMES, **dials)
