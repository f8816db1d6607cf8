import math
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from torch import Tensor, nn

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.sharing.hard import HardSharing
from mtlbook.tasks import Task
from mtlbook.training.fit import fit
from mtlbook.training.results import Fit
from mtlbook.training.sampling import Mixed
from mtlbook.training.settings import Settings
from mtlbook.weighting.uncertainty import UncertaintyWeighting

REGRESSION = Task.regression("depth")
CLASSIFICATION = Task.classification("kind", classes=4)
LOSSES = st.floats(1e-3, 1e3)
LOG_VARIANCES = st.floats(-5, 5)


def value(task: Task, loss: float, log_variance: float) -> float:
    weighting = UncertaintyWeighting([task], log_variance, dtype=torch.float64)
    return float(weighting(torch.tensor([loss], dtype=torch.float64)).detach())


def normal(*shape: int, purpose: str) -> Tensor:
    return torch.randn(*shape, generator=generator(0, purpose), dtype=torch.float64)


# The equation -------------------------------------------------------------------------------------


@given(st.floats(-3, 3), st.floats(0.1, 10))
def test_the_regression_form_is_the_gaussian_likelihood(residual, sigma):
    expected = -norm.logpdf(residual, scale=sigma) - math.log(2 * math.pi) / 2
    assert value(REGRESSION, residual**2, 2 * math.log(sigma)) == pytest.approx(expected, abs=1e-12)


def test_the_classification_form_approaches_the_scaled_softmax():
    """Exactly equal at σ = 1, and the approximation gets better on the way there."""
    logits = normal(50, 4, purpose="logits")
    target = torch.randint(4, (50,), generator=generator(0, "target"))
    loss = float(CLASSIFICATION.loss(logits, target).mean())
    gaps = []
    for sigma in (1.0, 1.01, 1.1, 1.5):
        exact = float(nn.functional.cross_entropy(logits / sigma**2, target))
        gaps.append(abs(value(CLASSIFICATION, loss, 2 * math.log(sigma)) - exact))
    assert gaps[0] < 1e-12
    assert gaps == sorted(gaps)
    assert gaps[1] < 0.02 < gaps[3]


@given(st.lists(st.tuples(LOSSES, LOG_VARIANCES), min_size=2, max_size=2))
def test_gradients_are_those_of_the_equation(pairs):
    weighting = UncertaintyWeighting([REGRESSION, CLASSIFICATION], dtype=torch.float64)
    with torch.no_grad():
        weighting.log_variances.copy_(torch.tensor([s for _, s in pairs], dtype=torch.float64))
    values = [loss for loss, _ in pairs]
    losses = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    weighting(losses).backward()
    assert losses.grad is not None
    assert weighting.log_variances.grad is not None
    expected = [c * math.exp(-s) for c, (_, s) in zip([0.5, 1.0], pairs, strict=True)]
    np.testing.assert_allclose(losses.grad, expected, rtol=1e-12)
    np.testing.assert_allclose(weighting.weights, expected, rtol=1e-12)
    by_s = [0.5 - w * loss for w, loss in zip(expected, values, strict=True)]
    np.testing.assert_allclose(weighting.log_variances.grad, by_s, rtol=1e-9, atol=1e-12)


def test_gradients_agree_with_finite_differences():
    tasks = [REGRESSION, CLASSIFICATION, Task.binary("sold")]
    weighting = UncertaintyWeighting(tasks, dtype=torch.float64)

    def joint(losses: Tensor, log_variances: Tensor) -> Tensor:
        return torch.func.functional_call(weighting, {"log_variances": log_variances}, (losses,))

    losses = torch.tensor([40.0, 0.7, 0.01], dtype=torch.float64, requires_grad=True)
    log_variances = torch.tensor([3.0, -0.5, -4.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(joint, (losses, log_variances))
    assert torch.autograd.gradgradcheck(joint, (losses, log_variances))


def test_what_the_classification_leaves_out_is_the_ratio_of_the_two_sums():
    """-log softmax(f / σ²) = L / σ² + log[Σ exp(f / σ²) / (Σ exp f)^(1 / σ²)], σ for the ratio."""
    logits = normal(50, 4, purpose="logits")
    target = torch.randint(4, (50,), generator=generator(0, "target"))
    loss = float(CLASSIFICATION.loss(logits, target).mean())
    for variance in (0.3, 1.0, 5.0):
        exact = float(nn.functional.cross_entropy(logits / variance, target))
        log_ratio = (logits / variance).logsumexp(1) - logits.logsumexp(1) / variance
        replaced = float(log_ratio.mean()) - math.log(variance) / 2
        used = value(CLASSIFICATION, loss, math.log(variance))
        assert exact - used == pytest.approx(replaced, abs=1e-12)


@pytest.mark.parametrize("task", [REGRESSION, CLASSIFICATION], ids=["regression", "classification"])
@given(LOSSES, LOG_VARIANCES, st.floats(0.01, 100))
def test_a_unit_is_a_shift(task, loss, log_variance, factor):
    """A loss in another unit moves s and the value, and nothing else."""
    shifted = value(task, factor * loss, log_variance + math.log(factor))
    expected = value(task, loss, log_variance) + math.log(factor) / 2
    assert shifted == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("task", "variance_per_loss"),
    [
        (REGRESSION, 1),
        (Task.dense_regression("normals", outputs=3), 1),
        (CLASSIFICATION, 2),
        (Task.binary("sold"), 2),
        (Task.tagging("part", labels=5), 2),
        (Task.dense_classification("segment", classes=5), 2),
    ],
    ids=lambda value: value.kind if isinstance(value, Task) else "",
)
@pytest.mark.parametrize("loss", [0.02, 1.0, 30.0])
def test_the_optimal_variance_is_the_loss_or_twice_the_loss(task, variance_per_loss, loss):
    variance = variance_per_loss * loss
    best = math.log(variance)
    least = value(task, loss, best)
    assert least == pytest.approx((1 + best) / 2)
    assert all(value(task, loss, best + shift) > least for shift in (-2, -1e-5, 1e-5, 2))
    at_the_optimum = UncertaintyWeighting([task], best, dtype=torch.float64)
    assert float(at_the_optimum.variances) == pytest.approx(variance)
    assert float(at_the_optimum.weights) == pytest.approx(1 / (2 * loss))


@given(LOSSES, LOG_VARIANCES)
def test_the_factor_of_a_half_is_a_shift_of_the_log_variance(loss, log_variance):
    shifted = value(REGRESSION, loss, log_variance - math.log(2))
    assert value(CLASSIFICATION, loss, log_variance) == pytest.approx(shifted + math.log(2) / 2)


# In a plain loop ----------------------------------------------------------------------------------


def test_the_noise_of_a_linear_world_is_that_of_least_squares():
    """The residual variance of ordinary least squares (divided by the rows, not corrected)."""
    rows, noise = 400, torch.tensor([10.0, 1.0, 0.05], dtype=torch.float64)
    x = normal(rows, 3, purpose="inputs")
    y = x @ normal(3, 3, purpose="slopes") + noise * normal(rows, 3, purpose="noise")
    design = np.column_stack([x, np.ones(rows)])
    _, residual_squares, *_ = np.linalg.lstsq(design, y.numpy(), rcond=None)

    lines = [Task.regression(name) for name in ("far", "near", "exact")]
    weighting = UncertaintyWeighting(lines, dtype=torch.float64)
    model = nn.Linear(3, 3, dtype=torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    optimiser = torch.optim.LBFGS(
        [*model.parameters(), *weighting.parameters()],
        max_iter=500,
        tolerance_grad=1e-10,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        optimiser.zero_grad()
        loss = weighting((model(x) - y).square().mean(0))
        loss.backward()
        return float(loss.detach())

    optimiser.step(closure)
    np.testing.assert_allclose(weighting.variances, residual_squares / rows, rtol=1e-6)
    # The truth lies within what 400 rows can tell: 4 standard errors of a variance, 4 √(2/400).
    np.testing.assert_allclose(weighting.variances, noise.square(), rtol=0.28)


def test_each_precision_is_served():
    for asked, own in [(None, torch.float32), (torch.float64, torch.float64)]:
        weighting = UncertaintyWeighting([REGRESSION], dtype=asked)
        for dtype in (torch.float32, torch.float64):
            joint = weighting(torch.ones(1, dtype=dtype, requires_grad=True))
            assert joint.dtype == dtype
            joint.backward()
        assert weighting.log_variances.grad is not None
        assert weighting.state_dict()["log_variances"].dtype == own


# In fit -------------------------------------------------------------------------------------------

TASKS = [Task.regression("far"), Task.classification("side", classes=2)]


def build(data: MultiTaskData, seed: int) -> HardSharing:
    heads = {task.name: nn.Linear(4, task.outputs) for task in TASKS}
    return HardSharing(lambda: [nn.Linear(3, 4), nn.Tanh()], heads)


def train(seeds: Iterable[int] = range(3), **options: Any) -> Fit:
    inputs = normal(120, 3, purpose="inputs")
    far = 5 * inputs.sum(1) + 10 * normal(120, purpose="noise")
    targets = {"far": far, "side": (inputs[:, 0] > 0).long()}
    data = MultiTaskData.multi_label(TASKS, inputs, targets)
    settings = Settings(
        **{
            "steps": 60,
            "optimiser": partial(torch.optim.Adam, lr=0.02),
            "combiner": UncertaintyWeighting(TASKS),
            "device": "cpu",
            **options,
        }
    )
    return fit(build, data, seeds=seeds, settings=settings)


def test_every_seed_trains_its_own_variances():
    together, apart, alone = train(), train(vectorise=False), train([1])
    fixed = train(combiner=UncertaintyWeighting(TASKS).requires_grad_(False))
    for task in ("far", "side"):
        losses = together.score(task, "loss")
        np.testing.assert_allclose(losses, apart.score(task, "loss"), rtol=1e-9)
        np.testing.assert_allclose(losses[1:2], alone.score(task, "loss"), rtol=1e-9)
        assert (np.abs(losses - fixed.score(task, "loss")) > 1e-6).all()
    assert together.cost.parameters == fixed.cost.parameters + 2


def test_the_variance_of_each_seed_ends_at_its_training_loss():
    """L for the regression and 2L for the classification, once s had the time to arrive."""

    def quick(named: list[tuple[str, Tensor]]) -> torch.optim.Optimizer:
        of_combiner = [values for name, values in named if name.startswith("combiner.")]
        of_model = [values for name, values in named if name.startswith("model.")]
        groups = [{"params": of_model}, {"params": of_combiner, "lr": 0.2}]
        return torch.optim.Adam(groups, lr=0.005, betas=(0.9, 0.9))

    trained = train(
        optimiser=quick,
        steps=400,
        sampler=Mixed(None),
        stopping=None,
        schedule=lambda progress: 1 - progress,
    )
    learnt = []
    for seed in trained.seeds:
        weighting = trained.combiner(seed)
        assert isinstance(weighting, UncertaintyWeighting)
        learnt.append(weighting.variances)
    losses = [trained.score(task.name, "loss", "train") for task in TASKS]
    expected = np.stack([losses[0], 2 * losses[1]], axis=1)
    np.testing.assert_allclose(torch.stack(learnt), expected, rtol=0.02)
    assert len({float(variances[0]) for variances in learnt}) == 3


def test_the_weighting_that_was_given_stays_as_it_was():
    weighting = UncertaintyWeighting(TASKS)
    train(combiner=weighting)
    assert not weighting.log_variances.any()


# What is refused ----------------------------------------------------------------------------------


def test_no_tasks_are_refused():
    with pytest.raises(UsageError, match="at least one task"):
        UncertaintyWeighting([])


@pytest.mark.parametrize("initial", [math.nan, math.inf])
def test_an_impossible_start_is_refused(initial):
    with pytest.raises(UsageError, match="must be a finite number"):
        UncertaintyWeighting([REGRESSION], initial)


def test_a_loss_that_is_no_likelihood_s_is_refused():
    with pytest.raises(UsageError, match=r"'visits' .* no noise to learn"):
        UncertaintyWeighting([REGRESSION, Task.counts("visits")])
