"""The study of linear models of School: its parts on made-up students, and a run at a tiny size."""

from functools import partial

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import r2_score

from mtlbook.book.studies import school_linear as study
from mtlbook.data import registry
from mtlbook.non_neural.block_sparse import BlockSparseRegression
from tests.book.studies.stand_ins import schools_of_28_inputs

needs_school = pytest.mark.skipif(
    not registry.available("school"), reason="school is not in the cache: mtlbook data fetch school"
)
METRICS = ["explained variance of all students", "explained variance within schools", "choice"]


def students(count=120, schools=3):
    source = np.random.default_rng(0)
    inputs = np.column_stack([source.normal(2, 3, size=(count, 4)), np.ones(count)])
    owner = np.arange(count) % schools
    scores = inputs @ [1, -1, 0, 0, 5] + 3 * owner + source.normal(size=count)
    return study.Students(inputs, scores, owner)


def test_explained_variance_by_both_definitions():
    people = students()
    weights = np.random.default_rng(1).normal(size=(3, 5))
    predicted = study.predict(weights, people)
    assert predicted[4] == pytest.approx(people.inputs[4] @ weights[1])
    found = study.explained_variances(weights, people)
    assert found[METRICS[0]] == pytest.approx(100 * r2_score(people.scores, predicted))
    # A school's mean taken from both leaves the errors and the variance within schools.
    means = np.array([people.scores[people.schools == s].mean() for s in range(3)])[people.schools]
    within = r2_score(people.scores - means, predicted - means)
    assert found[METRICS[1]] == pytest.approx(100 * within)


def test_pooled_is_one_regression_for_all():
    people = students()
    weights = study.pooled(people)
    assert weights.shape == (1, 3, 5)
    peer = LinearRegression(fit_intercept=False).fit(people.inputs, people.scores)
    assert np.allclose(weights, peer.coef_)


def test_ridge_is_scikit_learns_for_each_school():
    people = students()
    weights = study.ridge(people, np.array([2.0, 0.1]))
    for number in range(3):
        own = people[people.schools == number]
        for position, strength in enumerate([2.0, 0.1]):
            peer = Ridge(strength * len(own.scores), fit_intercept=False)
            peer.fit(own.inputs, own.scores)
            assert np.allclose(weights[position, number], peer.coef_)


def test_a_path_holds_what_a_cold_fit_finds():
    people = students()
    settings = [{"alpha": 1.0}, {"alpha": 0.05}]
    weights = study.path(BlockSparseRegression(), settings, people)
    for setting, found in zip(settings, weights, strict=True):
        cold = BlockSparseRegression(setting["alpha"], fit_intercept=False, tol=1e-10)
        cold.fit(people.inputs, people.scores, tasks=people.schools)
        assert np.allclose(found, cold.coef_, atol=0.05)


def test_a_seed_has_its_own_students_in_units_of_those_of_training():
    data = schools_of_28_inputs()
    training, test = study.drawn(data, 0)
    assert (len(training.scores), len(test.scores)) == (180, 60)
    assert np.bincount(training.schools).tolist() == [45] * 4
    assert np.allclose(training.inputs[:, :-1].mean(axis=0), 0)
    assert np.allclose(training.inputs[:, :-1].std(axis=0), 1)
    assert np.array_equal(test.inputs[:, -1], np.ones(60))
    assert training.scores.std() == pytest.approx(1)
    again, _ = study.drawn(data, 1)
    assert not np.array_equal(again.scores, training.scores)


def test_folds_are_even_within_each_school_and_differ_between_seeds():
    owner = np.repeat([0, 1], [23, 50])
    folds = study.fold_numbers(owner, 0)
    for number, sizes in ((0, {4, 5}), (1, {10})):
        assert set(np.bincount(folds[owner == number], minlength=study.FOLDS)) == sizes
    assert not np.array_equal(folds, study.fold_numbers(owner, 1))


def test_cross_validation_chooses_the_strength_that_predicts_unseen_students():
    people = students()
    folds = study.fold_numbers(people.schools, 0)
    method = partial(study.ridge, strengths=np.array([1e4, 1e-3]))
    weights, choice = study.tuned(method, people, folds)
    assert choice == 1
    assert np.array_equal(weights, method(people)[1])


def test_the_study_runs_at_a_tiny_size(monkeypatch):
    tiny = {
        "pooled least squares": study.pooled,
        "ridge for each school": partial(study.ridge, strengths=np.array([100.0, 0.5])),
        "ℓ1/ℓ2": partial(study.path, BlockSparseRegression(), [{"alpha": 0.1}]),
    }
    assert set(tiny) < set(study.methods())
    monkeypatch.setattr(study, "methods", lambda: tiny)
    monkeypatch.setattr(study, "FOLDS", 2)
    monkeypatch.setattr(study, "TOLERANCE", 1e-3)
    monkeypatch.setattr(study.school, "load", schools_of_28_inputs)
    results = study.run([0, 1], "cpu")
    assert list(results.columns) == ["seed", "method", "metric", "value"]
    assert list(results["metric"]) == METRICS * 6
    assert list(results["seed"]) == [0] * 9 + [1] * 9
    wide = results.pivot_table(index="seed", columns=["method", "metric"], values="value")
    values = dict(zip(wide.columns, wide.mean().tolist(), strict=True))
    assert values["ridge for each school", "choice"] == 1
    for method in tiny:
        assert 20 < values[method, METRICS[0]] <= 100
    # One law for all schools: 28 weights from 180 students against as many from 45.
    assert values["pooled least squares", METRICS[1]] > values["ridge for each school", METRICS[1]]


@needs_school
def test_pooled_least_squares_has_the_explained_variance_of_the_literature():
    training, held_out = study.drawn(study.school.load(), 0)
    found = study.explained_variances(study.pooled(training)[0], held_out)
    # A pilot's figure for one regression for all students: 33.8 %, and 21.8 to 25.2 % within.
    assert found[METRICS[0]] == pytest.approx(33.8, abs=2)
    assert found[METRICS[1]] == pytest.approx(23.5, abs=2.5)
