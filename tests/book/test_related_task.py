"""Section 7.1's experiments: the closed form measured, fair trials, and auxiliaries that stop."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge as Reference

from mtlbook.auxiliary.related_task import HELD_OUT, PooledRows
from mtlbook.book.data.worlds.related_rows import related_rows
from mtlbook.book.experiments import mlp
from mtlbook.book.experiments.auxiliary_tasks import equal_trials, zero_weight_gap
from mtlbook.book.experiments.related_task import (
    TRIALS,
    VALIDATION,
    WEIGHTS,
    Ridge,
    at_weight,
    constructed,
    contestants,
    costs,
    from_digits,
    joint,
    limiting_cases,
    measured_risks,
    measured_worth,
    stopping_steps,
    three_auxiliaries,
    with_held_out,
    with_own_stopping,
)
from mtlbook.book.page import Page
from mtlbook.data.multi_task_data import Holdout
from mtlbook.training.context import Batch, StepContext
from mtlbook.training.sampling import Balanced


@pytest.fixture
def page():
    return Page("7.1", {"seeds": 2, "first_seed": 7000, "device": "cpu"})


SMALL = {"steps": 40, "decays": (0.1, 0.3, 1.0, 3.0)}


def test_the_measured_risks_are_those_of_the_formula():
    own = PooledRows(rows=30, related_rows=120, cosine=0.6, inputs=6, noise=1.0)
    weights = [0.0, own.best_weight, 1.0]
    found = np.array([measured_risks(seed, own, weights, draws=100) for seed in range(10)])
    error = found.std(0) / 10**0.5
    expected = np.array([own.risk(weight) for weight in weights])
    assert (abs(found.mean(0) - expected) < 4 * error).all()
    assert (error < 0.05 * expected).all()


def test_a_ridge_model_is_the_best_of_its_trials_on_validation_rows():
    """One penalty, one weight: against scikit-learn's ridge on rows repeated by their weight."""
    own = Ridge(cosine=0.7, rows=30, times=2)
    made = related_rows(7000, rows=VALIDATION + 60, cosine=0.7)
    rows = {
        name: tuple(values[made.data.labelled[name]] for values in (made.data.inputs, target))
        for name, target in made.data.targets.items()
    }
    (x, y), (x2, y2) = rows["main"], rows["related"]
    penalties = np.geomspace(0.3, 300, TRIALS)
    inputs = torch.cat([x[VALIDATION : VALIDATION + 30], x2[VALIDATION:]])
    labels = torch.cat([y[VALIDATION : VALIDATION + 30], y2[VALIDATION:]])[:, 0]
    weights = np.concatenate([np.ones(30), np.full(60, 0.25)])
    models = [
        Reference(alpha=penalty, fit_intercept=False).fit(inputs, labels, sample_weight=weights)
        for penalty in penalties
    ]
    x_val, y_val = x[:VALIDATION].numpy(), y[:VALIDATION, 0].numpy()
    best = min(models, key=lambda model: float(((model.predict(x_val) - y_val) ** 2).mean()))
    excess = float(((best.coef_ - made.heads["main"].numpy()) ** 2).sum())
    assert own.error([7000], 0.25)[0] == pytest.approx(1.0 + excess, rel=1e-9)


def test_a_ridge_model_alone_does_not_see_the_related_rows():
    same = [Ridge(cosine=rho, mixed_up=up).error([7001]) for rho, up in ((0.0, False), (1.0, True))]
    assert same[0] == same[1]


def test_all_contestants_have_equal_trials_and_own_stopping_differs_by_its_rule_alone(page):
    setting = replace(from_digits(), **SMALL)
    arms = contestants(page, setting, stopping=True)
    assert equal_trials(*arms.values()) == 8
    assert set(arms["own stopping"].fits) == set(arms["related, λ chosen"].fits)
    for weight in WEIGHTS:
        assert len(at_weight(arms["related, λ chosen"], setting, weight).fits) == 2


def test_without_a_stop_own_stopping_is_joint_training(page, monkeypatch):
    """The minibatches and losses are the same: with a threshold out of reach nothing changes."""
    monkeypatch.setattr("mtlbook.book.experiments.related_task.THRESHOLD", 1e300)
    setting = replace(three_auxiliaries(), **SMALL)
    own, plain = with_own_stopping(page, setting), joint(page, setting)
    assert np.isnan(stopping_steps(own, "main")).all()
    for name, fit in plain.fits.items():
        np.testing.assert_allclose(
            own.fits[name].predictions["main"], fit.predictions["main"], rtol=1e-9
        )


def test_steps_at_which_tasks_stopped_are_told(page, monkeypatch):
    monkeypatch.setattr("mtlbook.book.experiments.related_task.THRESHOLD", 1e-9)
    setting = replace(three_auxiliaries(), **(SMALL | {"steps": 120}))
    steps = stopping_steps(with_own_stopping(page, setting), "main")
    assert steps.shape == (2, 3)
    assert np.nanmin(steps) >= 50
    assert (steps[np.isfinite(steps)] % 10 == 0).all()


def test_held_out_losses_are_those_of_their_streams_without_gradient():
    data = three_auxiliaries().data(7000)
    torch.manual_seed(0)
    model = mlp(data, 0).double()
    rows = {task.name: torch.nonzero(data.labelled[task.name])[:6, 0] for task in data.tasks}
    batches = {
        stream: Batch(data.inputs[own], {name: data.targets[name][own]}, {})
        for name, own in rows.items()
        for stream in (name, f"{name}{HELD_OUT}")
        if stream != f"main{HELD_OUT}"
    }
    objective = with_held_out(data.tasks)
    losses = objective.compute(model, batches, StepContext(0, 1, (), 0.1))
    assert sorted(losses) == sorted(objective.names)
    for name in ("near", "far", "noisy"):
        torch.testing.assert_close(losses[name], losses[f"{name}{HELD_OUT}"])
        assert losses[name].requires_grad
        assert not losses[f"{name}{HELD_OUT}"].requires_grad


def test_a_weight_of_zero_is_single_task_training_to_the_bit(page):
    """And behind a linear trunk of full width no related task does anything."""
    found = limiting_cases(page)
    assert found["λ = 0"] == 0.0
    assert found["linear trunk"] < 1e-12


@pytest.mark.parametrize("made", [constructed(cosine=1.0), from_digits()])
def test_with_rows_of_its_own_a_weight_of_zero_leaves_the_rounding_of_another_batch(page, made):
    """Products of 32 rows and of 16 are not rounded alike: there is nothing else."""
    common = {"split": made.split, "steps": 6, "sampler": Balanced(16)}
    assert zero_weight_gap(page, mlp, made.data, made.main, made.auxiliaries, **common) < 1e-13


def test_the_auxiliary_head_is_what_training_costs_more():
    """20 · 16 + 16 parameters of the layer, 16 + 1 of each head; 6 FLOPs a weight less inputs."""
    found = costs(constructed(cosine=1.0))
    assert found["single-task"]["parameters"] == 20 * 16 + 16 + 17
    assert found["beside a related task"]["parameters"] == found["single-task"]["parameters"] + 17
    more = (own["training FLOPs an example"] for own in found.values())
    assert [*more] == [4 * 320 + 6 * 16, 4 * 320 + 12 * 16]
    assert [own["examples a step"] for own in found.values()] == [32, 64]


def test_measured_effective_rows_are_those_of_the_formula():
    own = PooledRows(rows=30, related_rows=60, cosine=0.6, inputs=6, noise=1.0)
    found = measured_worth(range(8), own, own.best_weight, draws=100)
    assert found.mean() == pytest.approx(own.effective_rows(), rel=0.08)


def test_labels_of_the_settings_are_as_many_as_said():
    for setting in (constructed(cosine=0.7), three_auxiliaries(), from_digits()):
        data = setting.data(7000)
        split = setting.split.draw(data, 7000)
        assert isinstance(setting.split, Holdout)
        for name in (setting.main, *setting.auxiliaries):
            expected = setting.rows if name == setting.main else setting.related_rows
            assert int(split.labelled[name][split.train].sum()) == expected
        assert setting.on_means(1.0) == setting.related_rows / setting.rows


def test_the_control_permutes_the_related_labels_alone():
    plain, mixed = (from_digits(mixed_up=up).data(7000) for up in (False, True))
    assert torch.equal(plain.targets["parity"], mixed.targets["parity"])
    for name in ("loop", "above_four"):
        assert not torch.equal(plain.targets[name], mixed.targets[name])
        assert plain.targets[name].sum() == mixed.targets[name].sum()
