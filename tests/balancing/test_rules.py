"""What every rule that balances gradients does to transformed problems, and each one's optimum."""

import numpy as np
import pytest
import torch
from numpy import ndarray
from scipy.optimize import minimize

from mtlbook.balancing.aligned import AlignedMTL, aligning
from mtlbook.balancing.cagrad import CAGrad, SDMGrad, conflict_averse_weights, pulled_weights
from mtlbook.balancing.conflict_free import ConFIG
from mtlbook.balancing.dual_projection import DualProjection
from mtlbook.balancing.fairgrad import FairGrad, fair_weights
from mtlbook.balancing.gradvac import GradVac
from mtlbook.balancing.imtl import IMTLG
from mtlbook.balancing.mgda import MGDA, min_norm_weights
from mtlbook.balancing.nash import NashMTL
from mtlbook.balancing.pcgrad import PCGrad
from mtlbook.balancing.solving import RESOLUTION, cosines
from mtlbook.balancing.task_tension import TaskTension, tensioned
from mtlbook.balancing.upgrad import UPGrad
from mtlbook.combiner import Combiner, Evidence
from mtlbook.errors import UsageError
from tests.balancing.gramians import every_gramian, hard_gramians

RULES = {
    "MGDA": MGDA,
    "SDMGrad": SDMGrad,
    "CAGrad": CAGrad,
    "PCGrad": PCGrad,
    "GradVac": GradVac,
    "IMTL-G": IMTLG,
    "ConFIG": ConFIG,
    "Nash-MTL": NashMTL,
    "FairGrad": FairGrad,
    "Aligned-MTL": AlignedMTL,
    "UPGrad": UPGrad,
    "DualProj": DualProjection,
    "CDTT": TaskTension,
}
RANDOM = ("PCGrad", "GradVac")
every_rule = pytest.mark.parametrize("name", RULES)
exact_rule = pytest.mark.parametrize("name", [name for name in RULES if name not in RANDOM])


def weights(rule: Combiner, gramian: ndarray) -> ndarray:
    number = len(gramian)
    losses = torch.ones(number, dtype=torch.float64)
    labelled = torch.ones(number, dtype=torch.bool)
    return rule.weigh(Evidence(losses, labelled, gramian=torch.from_numpy(gramian))).numpy()


def direction(name: str, jacobian: ndarray) -> ndarray:
    rule = RULES[name]([f"task_{n}" for n in range(len(jacobian))])
    return weights(rule, jacobian @ jacobian.T) @ jacobian


def gradients(tasks: int = 4, seed: int = 0) -> ndarray:
    return np.random.default_rng(seed).standard_normal((tasks, 7)) + 0.5


@exact_rule
def test_the_order_of_the_tasks_does_not_matter(name):
    jacobian = gradients()
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(
        direction(name, jacobian[order]), direction(name, jacobian), rtol=1e-8, atol=1e-9
    )


@every_rule
def test_one_task_keeps_the_direction_of_its_gradient(name):
    jacobian = gradients(1)
    expected = {"Nash-MTL": 1 / np.linalg.norm(jacobian), "CAGrad": 1.4}
    expected["FairGrad"] = np.linalg.norm(jacobian) ** (-4 / 3)
    np.testing.assert_allclose(direction(name, jacobian), expected.get(name, 1) * jacobian[0])


@every_rule
def test_equal_gradients_keep_their_direction(name):
    row = gradients(1)[0]
    found = direction(name, np.stack([row] * 3))
    cosine = found @ row / np.linalg.norm(found) / np.linalg.norm(row)
    assert cosine == pytest.approx(1, abs=1e-9)


INVARIANT = {"IMTL-G", "ConFIG", "Nash-MTL", "CDTT"}  # to a loss's unit, in direction


@exact_rule
def test_whose_direction_a_loss_s_unit_changes(name):
    jacobian = gradients()
    scaled = jacobian * [[100.0], [1.0], [1.0], [1.0]]
    before, after = direction(name, jacobian), direction(name, scaled)
    cosine = before @ after / np.linalg.norm(before) / np.linalg.norm(after)
    assert (cosine > 1 - 1e-9) == (name in INVARIANT)


ORTHOGONAL = np.diag([2.0, 0.5, 3.0])
OF_ORTHOGONAL = {
    "MGDA": np.array([1 / 4, 4, 1 / 9]) / (1 / 4 + 4 + 1 / 9),
    "PCGrad": np.ones(3),
    "GradVac": np.ones(3),
    "IMTL-G": np.array([1 / 2, 2, 1 / 3]) / (1 / 2 + 2 + 1 / 3),
    "ConFIG": np.array([1 / 2, 2, 1 / 3]) * (2 + 0.5 + 3) / 3,
    "Nash-MTL": np.array([1 / 2, 2, 1 / 3]),
    "FairGrad": np.array([2, 0.5, 3]) ** (-4 / 3),
    "Aligned-MTL": 0.5 * np.array([1 / 2, 2, 1 / 3]),
    "UPGrad": np.full(3, 1 / 3),
    "DualProj": np.full(3, 1 / 3),
}


@pytest.mark.parametrize("name", OF_ORTHOGONAL)
def test_orthogonal_gradients_have_known_weights(name):
    rule = RULES[name](["a", "b", "c"])
    found = weights(rule, ORTHOGONAL @ ORTHOGONAL.T)
    np.testing.assert_allclose(found, OF_ORTHOGONAL[name], rtol=1e-9)


# Nash-MTL and FairGrad ------------------------------------------------------------------------


@every_gramian
@pytest.mark.parametrize("fairness", [1.0, 2.0])
def test_fair_weights_solve_their_equation(gramian, fairness):
    """Gw = w^(-1/α), but where no direction serves all tasks."""
    found = fair_weights(gramian, fairness)
    unit, norms = cosines(gramian)
    shortest = min_norm_weights(unit)
    if shortest @ unit @ shortest < RESOLUTION**2:
        scaled = found * norms  # of unit gradients: nothing moves
        assert scaled @ unit @ scaled < 1e-12 * scaled.sum() ** 2
    else:
        assert np.abs(gramian @ found * found ** (1 / fairness) - 1).max() <= 1e-8


def test_nash_s_step_is_as_long_as_there_are_tasks():
    for seed in range(5):
        found = direction("Nash-MTL", gradients(5, seed) * 10.0 ** np.arange(-2, 3)[:, None])
        assert found @ found == pytest.approx(5, rel=1e-9)


def test_little_fairness_is_the_sum_and_much_fairness_equal_gains():
    gramian = (jacobian := gradients()) @ jacobian.T
    np.testing.assert_allclose(fair_weights(gramian, 0.01), 1, atol=0.1)
    gains = gramian @ fair_weights(gramian, 100.0)
    np.testing.assert_allclose(gains / gains.mean(), 1, atol=0.1)


def test_a_task_without_gradient_takes_no_part_and_opposites_stand_still():
    gramian = np.diag([4.0, 0.0, 1.0])
    np.testing.assert_allclose(fair_weights(gramian, 1.0), [0.5, 0, 1])
    opposite = np.array([[1.0, 0.0], [-4.0, 0.0]])
    found = fair_weights(opposite @ opposite.T, 1.0)
    np.testing.assert_allclose(found @ opposite, 0, atol=1e-12)


# CAGrad and SDMGrad ---------------------------------------------------------------------------


@every_gramian
@pytest.mark.parametrize("radius", [0.4, 2.0])
def test_cagrad_s_worst_gain_is_the_dual_s_value(gramian, radius):
    """min_t <g_t, d> at ‖d - g₀‖ ≤ c ‖g₀‖ against every bound that weights on the tasks give."""
    number = len(gramian)
    mean = np.full(number, 1 / number)
    found = conflict_averse_weights(gramian, radius)
    unit = np.sqrt(gramian.diagonal())
    length = np.sqrt(mean @ gramian @ mean)
    if length < RESOLUTION * unit.max():  # the ball is a point
        np.testing.assert_array_equal(found, mean)
        return
    moved = found - mean
    distance = np.sqrt(max(moved @ gramian @ moved, 0))
    assert distance <= radius * length * (1 + 1e-6) + 1e-9 * unit.max()
    # The dual's weights are those of the move, scaled to the sum 1.
    w = moved / moved.sum()
    assert w.min() >= -1e-9
    value = w @ gramian @ mean + radius * length * np.sqrt(max(w @ gramian @ w, 0))
    gap = value - (gramian @ found).min()
    assert gap <= 1e-6 * (1 + radius) * length * unit.max()


def test_without_a_radius_it_is_the_mean_and_with_a_large_one_mgda_s_direction():
    gramian = (jacobian := gradients()) @ jacobian.T
    np.testing.assert_array_equal(conflict_averse_weights(gramian, 0.0), np.full(4, 0.25))
    far = conflict_averse_weights(gramian, 1e6)
    np.testing.assert_allclose(far / far.sum(), min_norm_weights(gramian), atol=1e-5)


def test_sdmgrad_lies_between_mgda_and_the_mean():
    gramian = (jacobian := gradients()) @ jacobian.T
    names = list("abcd")
    np.testing.assert_allclose(
        weights(SDMGrad(names, pull=0.0), gramian), min_norm_weights(gramian), atol=1e-12
    )
    np.testing.assert_allclose(weights(SDMGrad(names, pull=1e9), gramian), 0.25, atol=1e-6)


@every_gramian
def test_sdmgrad_s_weights_are_optimal(gramian):
    """(g_t + λg₀)·(g_w + λg₀) is least where w_t > 0."""
    w = pulled_weights(gramian, 0.3)
    mixed = w + 0.3 / len(w)
    products = gramian @ mixed + 0.3 * (gramian @ mixed).mean()
    scale = np.trace(gramian) / len(w)
    assert (w * (products - products.min())).sum() <= 1e-8 * scale


# ConFIG, Aligned-MTL, DualProj ----------------------------------------------------------------


def test_config_has_equal_cosines_and_the_length_of_the_projections():
    for seed in range(20):
        jacobian = gradients(5, seed) * 10.0 ** np.arange(-2, 3)[:, None]
        found = direction("ConFIG", jacobian)
        cosine = jacobian @ found / np.linalg.norm(jacobian, axis=1) / np.linalg.norm(found)
        np.testing.assert_allclose(cosine, cosine[0], rtol=1e-9)
        assert cosine[0] > 0
        length = np.linalg.norm(found)
        assert (jacobian @ found / length).sum() == pytest.approx(length)


def test_config_stands_still_between_opposites():
    opposite = np.array([[1.0, 0.0], [-4.0, 0.0]])
    np.testing.assert_allclose(direction("ConFIG", opposite), 0, atol=1e-12)


def test_aligned_gradients_are_orthogonal_and_of_the_least_length():
    jacobian = gradients(4)
    least = np.linalg.svd(jacobian, compute_uv=False)[-1]
    aligned = aligning(jacobian @ jacobian.T) @ jacobian
    np.testing.assert_allclose(aligned @ aligned.T, least**2 * np.eye(4), atol=1e-9)


@every_gramian
def test_the_dual_projection_is_optimal(gramian):
    """v ≥ 1/K, Gv ≥ 0, and no slack in both at once, in the unit of the problem."""
    number = len(gramian)
    found = weights(DualProjection([f"{n}" for n in range(number)]), gramian)
    norms = np.sqrt(gramian.diagonal())
    added, products = found - 1 / number, gramian @ found
    assert added.min() >= 0
    assert (products / (norms * norms.max())).min() >= -1e-8
    assert np.abs(added * products).max() <= 1e-8 * norms.max() ** 2


def test_the_dual_projection_is_nearest_to_the_mean():
    source = np.random.default_rng(3)
    for _ in range(5):
        jacobian = source.standard_normal((4, 6))
        mean = jacobian.mean(0)
        nearest = minimize(
            lambda d, g=mean: ((d - g) ** 2).sum(),
            mean,
            jac=lambda d, g=mean: 2 * (d - g),
            method="SLSQP",
            constraints={"type": "ineq", "fun": lambda d, j=jacobian: j @ d},
            options={"ftol": 1e-14, "maxiter": 500},
        )
        np.testing.assert_allclose(direction("DualProj", jacobian), nearest.x, atol=1e-5)


# GradVac ---------------------------------------------------------------------------------------


def test_gradvac_turns_a_gradient_to_its_target():
    jacobian = np.array([[1.0, 0.0], [-0.6, 0.8]])
    rule = GradVac(["a", "b"], rate=0.0)
    rule.targets.fill_(0.5)
    rule.eval()
    found = weights(rule, jacobian @ jacobian.T)
    changed = []
    for i, j in ((0, 1), (1, 0)):
        c = (0.5 * 0.8 + 0.6 * np.sqrt(0.75)) / np.sqrt(0.75)
        turned = jacobian[i] + c * jacobian[j]
        assert turned @ jacobian[j] / np.linalg.norm(turned) == pytest.approx(0.5)
        changed.append(turned)
    np.testing.assert_allclose(found @ jacobian, sum(changed), rtol=1e-12)


class SameOrders(GradVac):
    purpose = PCGrad.purpose


def test_gradvac_without_a_past_is_pcgrad_and_remembers_cosines():
    for gramian in hard_gramians(20):
        names = [f"{n}" for n in range(len(gramian))]
        ours, theirs = SameOrders(names, rate=0.0, seed=3), PCGrad(names, seed=3)
        scale = np.abs(weights(theirs.eval(), gramian))
        np.testing.assert_allclose(
            weights(ours.eval(), gramian), weights(theirs, gramian), atol=1e-6 * scale.max()
        )
    rule = GradVac(["a", "b"], rate=0.25)
    weights(rule, np.array([[1.0, 0.8], [0.8, 1.0]]))
    np.testing.assert_allclose(rule.targets, [[0, 0.2], [0.2, 0]], rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (lambda: FairGrad(["a"], fairness=0.0), "fairness"),
        (lambda: CAGrad(["a"], radius=-1.0), "radius"),
        (lambda: SDMGrad(["a"], pull=-1.0), "pull"),
        (lambda: GradVac(["a"], rate=2.0), "rate"),
        (lambda: TaskTension(["a"], sensitivity=-1.0), "sensitivity"),
        (lambda: TaskTension(["a"], window=0), "window"),
    ],
)
def test_a_dial_out_of_range_is_named(make, cause):
    with pytest.raises(UsageError, match=cause):
        make()


# CDTT -----------------------------------------------------------------------------------------


def tension_of(k: float, sensitivity: float) -> float:
    return sensitivity / (1 + np.exp(np.e - np.e * k)) + 1 - sensitivity


def test_cdtt_s_common_direction_has_equal_projections_until_two_windows_are_over():
    jacobian = gradients() * [[1.0], [10.0], [0.1], [3.0]]
    found = direction("CDTT", jacobian)
    units = jacobian / np.linalg.norm(jacobian, axis=1)[:, None]
    shortest = min_norm_weights(units @ units.T) @ units
    cosine = found @ shortest / np.linalg.norm(found) / np.linalg.norm(shortest)
    assert cosine == pytest.approx(1, abs=1e-12)
    # Scaled so that the gradients' own weights have the sum 1.
    rule = RULES["CDTT"](list("abcd"))
    assert weights(rule, jacobian @ jacobian.T).sum() == pytest.approx(1)


def test_cdtt_pulls_by_the_ratio_of_windows_and_the_loss():
    """Three steps of two: norms halve for task a; losses 10 and 0.1."""
    rule = RULES["CDTT"](["a", "b"], sensitivity=0.8, window=1)
    losses = torch.tensor([10.0, 0.1], dtype=torch.float64)
    labelled = torch.ones(2, dtype=torch.bool)
    for scale in (2.0, 1.0):
        first = torch.diag(torch.tensor([scale**2, 1.0], dtype=torch.float64))
        rule.weigh(Evidence(losses, labelled, gramian=first))
    jacobian = np.array([[1.0, 0.5], [0.0, 1.0]])
    gramian = torch.from_numpy(jacobian @ jacobian.T)
    found = rule.weigh(Evidence(losses, labelled, gramian=gramian)).numpy() @ jacobian
    unit = jacobian / np.linalg.norm(jacobian, axis=1)[:, None]
    common = unit.mean(0) / np.mean(1 / np.linalg.norm(jacobian, axis=1))
    expected = common.copy()
    for row, k in zip(jacobian, (0.5 + 1, 1 - 1), strict=True):
        expected += tension_of(k, 0.8) * (row - common) / np.linalg.norm(row - common)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_cdtt_ends_in_no_conflict_with_the_task_that_it_turned_to_last():
    rule = RULES["CDTT"](list("abcd"), window=1)
    for seed in range(20):
        jacobian = np.random.default_rng(seed).standard_normal((4, 5)) - 0.3
        found = weights(rule, jacobian @ jacobian.T) @ jacobian
        assert jacobian[-1] @ found >= -1e-9


def test_cdtt_moves_straight_towards_a_gradient_that_it_conflicts_with():
    gramian = np.array([[1.0, -0.9], [-0.9, 1.0]])
    pulled = tensioned(gramian, np.array([0.0, 5.0]))
    length = np.sqrt(0.95)  # of half the difference
    before = tensioned(gramian, np.zeros(2)) * (1 - 5 / length) + [0, 5 / length]
    assert gramian[0] @ before < 0
    assert gramian[0] @ pulled == pytest.approx(0, abs=1e-12)
    # What moved is a mixture of d and the gradient.
    mixed = (1 - (s := 1 - pulled[1] / before[1])) * before + s * np.eye(2)[0]
    np.testing.assert_allclose(pulled, mixed, rtol=1e-12)
