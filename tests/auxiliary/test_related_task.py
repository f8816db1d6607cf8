"""A related task: rows in closed form, and auxiliary tasks that stop on their own."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest
import torch
from torch import nn

from mtlbook.auxiliary.related_task import (
    HELD_OUT,
    PooledRows,
    TaskwiseEarlyStopping,
    held_out_losses,
    on_means,
)
from mtlbook.combiner import Evidence
from mtlbook.errors import UsageError
from mtlbook.randomness import generator

POOLED = PooledRows(rows=30, related_rows=90, cosine=0.6, inputs=4, noise=0.8)


# The closed form ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cosine", [-0.5, 0.0, 0.6, 0.99])
@pytest.mark.parametrize("related_rows", [1, 90, 10_000])
def test_no_other_weight_has_less_risk(cosine, related_rows):
    own = replace(POOLED, cosine=cosine, related_rows=related_rows)
    least = own.risk(own.best_weight)
    for factor in (0.0, 0.3, 0.99, 1.01, 3.0, 1e6):
        assert own.risk(factor * own.best_weight) >= least
    slope = own.risk(own.best_weight * (1 + 1e-6)) - own.risk(own.best_weight * (1 - 1e-6))
    assert abs(slope) < 1e-9 * least


def test_without_weight_the_main_tasks_own_rows_are_left():
    assert POOLED.risk(0.0) == pytest.approx(POOLED.spread / POOLED.rows, abs=1e-12)
    assert POOLED.effective_rows(0.0) == pytest.approx(30, abs=1e-12)


def test_equal_tasks_pool_their_rows():
    equal = replace(POOLED, cosine=1.0)
    assert equal.best_weight == 1.0
    assert equal.effective_rows() == pytest.approx(120, abs=1e-12)
    assert equal.most_rows == inf


def test_a_weight_without_limit_is_the_related_tasks_own_model():
    s, n = POOLED.spread, POOLED.related_rows
    assert POOLED.risk(1e12) == pytest.approx(s / n + 2 * (1 - 0.6), abs=1e-9)


def test_effective_rows_are_n_and_the_weighted_related_ones_up_to_their_limit():
    for related_rows in (1, 90, 10_000):
        own = replace(POOLED, related_rows=related_rows)
        expected = 30 + own.best_weight * related_rows
        assert own.effective_rows() == pytest.approx(expected, rel=1e-12)
        assert own.effective_rows() < own.most_rows
    many = replace(POOLED, related_rows=10**12)
    assert many.effective_rows() == pytest.approx(many.most_rows, rel=1e-9)


@pytest.mark.parametrize("weight", [0.0, 0.05, 1.0])
def test_the_risk_is_that_of_least_squares_on_orthonormal_designs(weight):
    """By Monte Carlo: an independent solver, 4,000 draws of both tasks' data."""
    n, more, d, draws = POOLED.rows, POOLED.related_rows, POOLED.inputs, 4000
    rng = np.random.default_rng(5)

    def design(rows):
        return np.sqrt(rows) * np.linalg.qr(rng.standard_normal((draws, rows, d)))[0]

    w, w2 = np.zeros(d), np.zeros(d)
    w[0], w2[:2] = 1.0, (0.6, 0.8)
    x, x2 = design(n), design(more)
    y = x @ w + 0.8 * rng.standard_normal((draws, n))
    y2 = x2 @ w2 + 0.8 * rng.standard_normal((draws, more))
    root = np.sqrt(weight)
    both, labels = np.concatenate([x, root * x2], 1), np.concatenate([y, root * y2], 1)
    normal = both.transpose(0, 2, 1) @ both
    found = np.linalg.solve(normal, both.transpose(0, 2, 1) @ labels[:, :, None])[:, :, 0]
    excess = ((found - w) ** 2).sum(1)
    error = excess.std() / np.sqrt(draws)
    assert abs(excess.mean() - POOLED.risk(weight)) < 4 * error
    assert error < 0.03 * excess.mean()


def test_weights_of_sums_and_of_means_have_the_same_gradient():
    x, x2 = torch.randn(3, 2, generator=generator(0, "x")), torch.randn(12, 2)
    w = torch.zeros(2, requires_grad=True)
    own, related = (x @ w - 1).square(), (x2 @ w - 2).square()
    weight = on_means(0.3, rows=3, related_rows=12)
    assert weight == pytest.approx(1.2)
    (summed,) = torch.autograd.grad(own.sum() + 0.3 * related.sum(), w, retain_graph=True)
    (averaged,) = torch.autograd.grad(own.mean() + weight * related.mean(), w)
    torch.testing.assert_close(summed, 3 * averaged)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"rows": 0}, "rows=0"),
        ({"related_rows": 0}, "related_rows=0"),
        ({"inputs": 0}, "inputs=0"),
        ({"cosine": 1.1}, "cosine"),
        ({"cosine": float("nan")}, "cosine"),
        ({"noise": 0.0}, "above 0"),
        ({"noise": inf}, "above 0"),
    ],
)
def test_impossible_tasks_are_refused(wrong, told):
    with pytest.raises(UsageError, match=told):
        replace(POOLED, **wrong)


def test_no_rows_have_no_mean():
    with pytest.raises(UsageError, match="related_rows=0"):
        on_means(1.0, rows=5, related_rows=0)


# Stopping -----------------------------------------------------------------------------------------


def rule(**changed):
    weights = {"smile": 0.5, "glasses": 2.0}
    return TaskwiseEarlyStopping(
        "pose", weights, **({"threshold": 1.0, "window": 3, "every": 1} | changed)
    ).double()


def seen(own, *losses):
    """The combiner after steps of (smile, glasses, smile held out, glasses held out)."""
    for of_step in losses:
        own(torch.tensor([1.0, *of_step], dtype=torch.float64))
    return own


def test_the_criterion_is_the_published_one():
    """Against the equation written out for one task, at every look."""
    source = generator(1, "losses")
    training = torch.rand(12, generator=source, dtype=torch.float64) + 0.2
    held_out = training + torch.rand(12, generator=source, dtype=torch.float64)
    own = TaskwiseEarlyStopping("m", {"a": 0.7}, threshold=1e9, window=4, every=1).double()
    for t in range(12):
        own(torch.stack([training[t], training[t], held_out[t]]))
        if t >= 3:
            window = training[t - 3 : t + 1].numpy()
            k, med = 4, float(np.median(window))
            trend = k * med / (window.sum() - k * med)
            least = float(training[: t + 1].min())
            expected = trend * (float(held_out[t]) - least) / (0.7 * least)
            assert float(own.criterion(held_out[t : t + 1])) == pytest.approx(expected, rel=1e-9)


def test_each_auxiliary_task_stops_on_its_own_and_for_good():
    flat_gap, falling = (0.4, 0.9), (0.4, 0.4)
    own = rule()
    for step, (smile, glasses) in enumerate([(0.9, 2.0), (0.9, 1.0), (0.9, 0.5), (0.9, 0.25)]):
        total = seen(own, (smile, glasses, flat_gap[1] + 0.3, falling[1] - 0.3))
        assert own.stopped_at.tolist() == [3 if step >= 2 else 0, 0]
        del total
    weights = own.weigh(Evidence(torch.ones(5).double(), torch.ones(5, dtype=torch.bool)))
    assert weights.tolist() == [1.0, 0.0, 2.0, 0.0, 0.0]
    seen(own, *[(9.0 / (t + 1), 0.1, 0.0, 0.1) for t in range(6)])
    assert own.stopped_at[0] == 3


def test_before_the_window_is_full_and_without_a_gap_nothing_stops():
    assert seen(rule(), (1.0, 1.0, 9.0, 9.0), (1.0, 1.0, 9.0, 9.0)).stopped_at.tolist() == [0, 0]
    assert seen(rule(), *[(1.0, 1.0, 0.9, 1.0)] * 9).stopped_at.tolist() == [0, 0]


def test_a_look_is_the_mean_of_its_steps():
    own = TaskwiseEarlyStopping("m", {"a": 1.0}, threshold=1.0, window=2, every=3).double()
    for loss in (1.0, 2.0, 6.0, 5.0, 5.0, 5.0):
        own(torch.tensor([0.0, loss, 1.0], dtype=torch.float64))
    assert own.looks.flatten().tolist() == [3.0, 5.0]
    assert own.least.tolist() == [3.0]


def test_held_out_losses_have_no_weight_and_no_gradient():
    own = rule()
    losses = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64, requires_grad=True)
    total = own(losses)
    total.backward()
    assert float(total.detach()) == 1.0 + 0.5 * 2.0 + 2.0 * 3.0
    assert losses.grad is not None
    assert losses.grad.tolist() == [1.0, 0.5, 2.0, 0.0, 0.0]
    named = held_out_losses({"pose": losses[0], "smile": losses[1]}, {"smile": losses[3]})
    assert list(named) == ["pose", "smile", f"smile{HELD_OUT}"]
    assert not named[f"smile{HELD_OUT}"].requires_grad


def test_replicas_stop_as_they_would_alone():
    source = generator(3, "losses")
    losses = torch.rand(40, 3, 5, generator=source, dtype=torch.float64)
    losses[:, :, 3:] += torch.linspace(0, 1, 40, dtype=torch.float64)[:, None, None]
    together = rule(threshold=3.0, every=2).replicated([0, 1, 2]).double()
    assert isinstance(together, TaskwiseEarlyStopping)
    apart = [rule(threshold=3.0, every=2) for _ in range(3)]
    for of_step in losses:
        joint = together(of_step)
        single = torch.stack([own(mine) for own, mine in zip(apart, of_step, strict=True)])
        assert torch.equal(joint, single)
    assert torch.equal(together.stopped_at, torch.stack([own.stopped_at for own in apart]))
    assert len(together.stopped_at.unique()) > 2  # they do stop, at times of their own


def test_in_evaluation_nothing_is_noted():
    own = seen(rule().eval(), *[(1.0, 1.0, 9.0, 9.0)] * 5)
    assert own.steps == 0
    assert own.stopped_at.tolist() == [0, 0]


def test_a_stopped_rule_is_continued_from_its_state():
    own = seen(rule(), *[(1.0, 1.0, 3.0, 0.5)] * 4)
    fresh = rule()
    fresh.load_state_dict(own.state_dict())
    assert fresh.stopped_at.tolist() == own.stopped_at.tolist() == [3, 0]


def test_a_plain_loop_stops_an_auxiliary_task_that_is_noise():
    """Random labels are learnt by heart: their held-out loss grows, and their weight becomes 0."""
    torch.manual_seed(0)
    x, unseen = torch.randn(20, 10), torch.randn(200, 10)
    y, noise, other = x[:, :1], torch.randn(20, 1), torch.randn(200, 1)
    trunk = nn.Sequential(nn.Linear(10, 32), nn.Tanh())
    heads = nn.ModuleDict({"main": nn.Linear(32, 1), "extra": nn.Linear(32, 1)})
    own = TaskwiseEarlyStopping("main", {"extra": 1.0}, threshold=10.0, every=5)
    optimiser = torch.optim.Adam([*trunk.parameters(), *heads.parameters()], lr=0.01)
    mse = nn.functional.mse_loss
    for _ in range(300):
        features = trunk(x)
        with torch.no_grad():
            held_out = mse(heads["extra"](trunk(unseen)), other)
        losses = [mse(heads["main"](features), y), mse(heads["extra"](features), noise), held_out]
        optimiser.zero_grad()
        own(torch.stack(losses)).backward()
        optimiser.step()
    assert 0 < int(own.stopped_at) < 300


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"weights": {}}, "name their weights"),
        ({"weights": {"pose": 1.0}}, "beside the main task"),
        ({"weights": {"smile": 0.0}}, "above 0"),
        ({"weights": {"smile": inf}}, "above 0"),
        ({"window": 1}, "at least 2 looks"),
        ({"every": 0}, "at least 1 step"),
        ({"threshold": 0.0}, "threshold is above 0"),
    ],
)
def test_impossible_rules_are_refused(wrong, told):
    given = {"weights": {"smile": 1.0}, "threshold": 1.0} | wrong
    with pytest.raises(UsageError, match=told):
        TaskwiseEarlyStopping("pose", given.pop("weights"), **given)
