"""Section 8.4: ends of descent on known fronts, and the contest of weights and rules."""

import numpy as np
import pytest
import torch

from mtlbook.book.data.worlds.one_unit import one_unit
from mtlbook.book.experiments import adam
from mtlbook.book.experiments.scalarisation import (
    Contest,
    drawn_fits,
    end_rules,
    ends,
    ends_by_rule,
    kinds,
)
from mtlbook.book.studies import water_quality
from mtlbook.data import Holdout
from mtlbook.data.scaling import RawTable
from mtlbook.errors import UsageError
from mtlbook.randomness import generator, standard_normal
from mtlbook.tasks import Task
from mtlbook.weighting.linear_front import reached_by_weights, unexplained, unit_fits


def fits_at(correlation, seed=7000):
    made = one_unit(seed, rows=200, correlation=correlation)
    return unit_fits(made.data.inputs, made.targets)


def test_fixed_weights_end_at_their_eigenvector_from_every_start():
    fits = fits_at(-0.3).expand(8, 3, 3)
    starts = standard_normal(generator(0, "starts"), 8, 3)
    found = ends(fits, starts, end_rules()["fixed weights"], steps=600)
    best = reached_by_weights(fits[0], torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close((found @ best).abs(), torch.ones(8).double(), rtol=0, atol=1e-6)


def test_rules_end_where_the_gradients_balance():
    fits = fits_at(-0.3).expand(8, 3, 3)
    starts = standard_normal(generator(0, "starts"), 8, 3)
    for name in ("MGDA", "UPGrad"):
        found = ends(fits, starts, end_rules()[name], steps=600)
        along = found @ fits[0].T
        gradients = -2 * along[..., None] * (fits - along[..., None] * found[:, None])
        for own in gradients.numpy():
            # The least norm of a convex combination, on a grid of weights.
            grid = np.array([(i, j, 40 - i - j) for i in range(41) for j in range(41 - i)]) / 40
            assert np.linalg.norm(grid @ own, axis=1).min() < 0.08


def test_ends_are_told_apart():
    fits = fits_at(-0.3)
    middle = torch.linalg.eigh(fits.T @ fits).eigenvectors[:, 0]
    supported = reached_by_weights(fits, torch.tensor([0.2, 0.5, 0.3]).double())
    assert kinds(fits, supported[None])["reached"] == 100
    found = kinds(fits, torch.stack([supported, middle]))
    assert sum(found.values()) == pytest.approx(100)
    assert found["reached"] == 50
    assert float(unexplained(middle, fits).min()) > 0


def test_shares_are_by_seed_and_a_front_without_gap_has_all_in_reach():
    fits = {seed: fits_at(0.4, seed) for seed in (7000, 7001)}
    shares = ends_by_rule(fits, end_rules(), starts=4)
    assert set(shares) == {"fixed weights", "MGDA", "UPGrad", "smooth Chebyshev"}
    for own in shares.values():
        assert own["out of reach"].tolist() == [0, 0]


def test_the_world_has_its_correlations_and_refuses_impossible_ones():
    made = one_unit(3, rows=20_000, correlation=0.4)
    assert np.corrcoef(made.signals.numpy().T)[0, 1:] == pytest.approx([0.4, 0.4], abs=0.03)
    few = one_unit(3, rows=7, correlation=0.4)
    assert torch.equal(few.targets, made.targets[:7])
    with pytest.raises(UsageError, match=r"between -0\.5 and 1"):
        one_unit(0, rows=5, correlation=-0.6)


def test_contestants_have_twelve_trials_each_and_the_study_its_rows():
    source = generator(0, "table")
    x = standard_normal(source, 120, 6)
    x[3, 2] = float("nan")
    names = ["a", "b", "c", "d"]
    clean = x.nan_to_num(0.0)
    y = {name: clean[:, [n]] * clean[:, [n + 1]] + clean[:, [n]] for n, name in enumerate(names)}
    tasks = tuple(Task.regression(name) for name in names)
    marks = dict.fromkeys(names, torch.ones(120, dtype=torch.bool))
    table = RawTable(tasks, x, y, marks)
    found = water_quality.measured(table, Holdout(60, 30, 30), [7000, 7001], "cpu", steps=10)
    losses = found[found["metric"] == "loss"]
    assert losses.groupby("method").size().to_dict() == {"fixed": 8, "rules": 8, "unitary": 8}
    shares = found[found["metric"] == "share"]
    totals = [own["value"].sum() for _, own in shares.groupby(["seed", "method"])]
    np.testing.assert_allclose(totals, 100)
    contest = Contest(
        seeds=[7000],
        device="cpu",
        data=table.filled(),
        tasks=names,
        weights={"even": (1.0,) * 4, "one": (1.0, 0.0, 0.0, 0.0), "two": (1.0, 1.0, 0.0, 0.0)},
        optimiser=adam,
        rates=(0.01, 0.02, 0.04, 0.08),
        split=Holdout(60, 30, 30),
        steps=10,
    )
    counts = {len(own.fits) for own in (contest.rules(), contest.fixed(), contest.unitary())}
    assert counts == {12}


def test_each_seed_draws_its_own_rows_and_tasks():
    x, y = standard_normal(generator(0, "x"), 80, 4), standard_normal(generator(0, "y"), 80, 5)
    found = drawn_fits(x, y, [1, 2])
    again = drawn_fits(x, y, [2])
    assert torch.equal(found[2], again[2])
    assert not torch.equal(found[1], found[2])
