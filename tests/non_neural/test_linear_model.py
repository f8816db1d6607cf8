import math

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import MultiTaskLasso
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import check_estimator

from mtlbook.errors import UsageError
from mtlbook.non_neural.block_sparse import BlockSparseRegression
from mtlbook.non_neural.dirty_model import DirtyModel
from mtlbook.non_neural.linear_model import MultiTaskLinearModel
from mtlbook.non_neural.trace_norm import TraceNormRegression

# For the check that a regressor learns something, scikit-learn sets `alpha` to 0.01, but can't know
# the dirty model's two strengths.
ESTIMATORS = [
    BlockSparseRegression(),
    BlockSparseRegression(q=1),
    BlockSparseRegression(q=math.inf),
    DirtyModel(alpha_block=0.015, alpha_sparse=0.01),
    TraceNormRegression(),
    TraceNormRegression(squared=True),
]
every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)


def world(rows=60):
    source = np.random.default_rng(0)
    inputs = source.normal(size=(rows, 6))
    tasks = source.permutation(np.resize(["barley", "maize", "wheat"], rows))
    weights = {"barley": [1, 0, 0, 2, 0, 0], "maize": [2, 0, 0, 1, 0, 0], "wheat": [1] + 5 * [0]}
    means = {"barley": 0, "maize": 10, "wheat": -5}
    y = [x @ weights[task] + means[task] for x, task in zip(inputs, tasks, strict=True)]
    return inputs, np.array(y) + 0.3 * source.normal(size=rows), tasks


def fresh(estimator: MultiTaskLinearModel) -> MultiTaskLinearModel:
    return type(estimator)(**estimator.get_params())


@every_estimator
def test_it_is_an_estimator_to_the_letter(estimator):
    check_estimator(estimator, on_skip=None)


@every_estimator
def test_the_gap_is_certified(estimator):
    inputs, y, tasks = world()
    model = fresh(estimator).fit(inputs, y, tasks)
    spread = sum(y[tasks == task].var() for task in model.tasks_)
    assert 0 <= model.dual_gap_ <= 1e-8 * spread
    assert 1 <= model.n_iter_ < 1000


@every_estimator
def test_labels_of_tasks_may_be_of_any_kind_and_in_any_order(estimator):
    inputs, y, tasks = world()
    named = fresh(estimator).fit(inputs, y, tasks)
    assert named.tasks_.tolist() == ["barley", "maize", "wheat"]
    numbered = fresh(estimator).fit(
        inputs, y, [{"barley": 7, "maize": 9}.get(t, 12) for t in tasks]
    )
    assert numbered.tasks_.tolist() == [7, 9, 12]
    assert np.array_equal(named.coef_, numbered.coef_)
    order = np.argsort(tasks, kind="stable")
    frame = pd.DataFrame({"y": y, "task": tasks}).iloc[order]
    ordered = fresh(estimator).fit(inputs[order], frame["y"], tasks=frame["task"])
    assert np.allclose(named.coef_, ordered.coef_, rtol=0, atol=1e-12)


def test_each_row_is_predicted_by_its_own_task():
    inputs, y, tasks = world()
    model = BlockSparseRegression(0.1).fit(inputs, y, tasks)
    assert model.coef_.shape == (3, 6)
    assert model.intercept_.shape == (3,)
    all_tasks = model.predict(inputs)
    assert all_tasks.shape == (60, 3)
    own = model.predict(inputs, tasks)
    for column, task in enumerate(["barley", "maize", "wheat"]):
        assert np.array_equal(own[tasks == task], all_tasks[tasks == task, column])
    expected = model.coef_[2] @ inputs[0] + model.intercept_[2]
    assert np.isclose(model.predict(inputs[:1], ["wheat"])[0], expected, rtol=1e-12)


def test_the_score_is_the_mean_of_the_tasks_own():
    inputs, y, tasks = world()
    model = BlockSparseRegression(0.5).fit(inputs, y, tasks)
    predictions = model.predict(inputs, tasks)
    weights = np.random.default_rng(1).uniform(size=60)
    for sample_weight in (None, weights):
        own = [
            r2_score(
                y[rows],
                predictions[rows],
                sample_weight=None if sample_weight is None else sample_weight[rows],
            )
            for rows in (tasks == task for task in model.tasks_)
        ]
        assert np.isclose(model.score(inputs, y, sample_weight, tasks), np.mean(own), rtol=1e-12)
    assert model.score(inputs, y, tasks=tasks) < r2_score(y, predictions) - 0.01


def test_the_score_of_a_shared_design_is_scikit_learns():
    inputs, y, _ = world()
    outputs = np.stack([y, inputs[:, 0]], axis=1)
    ours = BlockSparseRegression(0.1, tol=1e-13).fit(inputs, outputs).score(inputs, outputs)
    theirs = MultiTaskLasso(0.1, tol=1e-13).fit(inputs, outputs).score(inputs, outputs)
    assert np.isclose(ours, theirs, rtol=1e-9)


def test_tasks_are_routed_through_a_grid_search():
    inputs, y, tasks = world(90)
    with sklearn.config_context(enable_metadata_routing=True):
        model = BlockSparseRegression()
        model.set_fit_request(tasks=True)
        model.set_score_request(tasks=True)
        search = GridSearchCV(model, {"alpha": [0.01, 0.1, 10.0]}, cv=3).fit(inputs, y, tasks=tasks)
    assert search.best_params_["alpha"] < 10
    assert search.best_estimator_.tasks_.tolist() == ["barley", "maize", "wheat"]


def test_a_task_with_one_row_and_a_constant_task_are_harmless():
    inputs, y, tasks = world(20)
    tasks = np.where(np.arange(20) == 3, "alone", tasks)
    y = np.where(tasks == "wheat", 4.0, y)
    model = BlockSparseRegression(0.01).fit(inputs, y, tasks)
    weights = dict(zip(model.tasks_, model.coef_, strict=True))
    assert np.allclose(weights["alone"], 0)
    assert np.allclose(weights["wheat"], 0)
    assert np.allclose(model.predict(inputs[:1], ["wheat"]), 4)


@every_estimator
def test_a_warm_start_ends_where_a_cold_one_does_in_fewer_iterations(estimator):
    inputs, y, tasks = world()
    settings = {"tol": 1e-13, "warm_start": True}
    warm = fresh(estimator).set_params(**settings).fit(inputs, y, tasks)
    first = warm.coef_
    warm.fit(inputs, y + 0.001 * inputs[:, 0], tasks)
    cold = fresh(estimator).set_params(**settings).fit(inputs, y + 0.001 * inputs[:, 0], tasks)
    assert np.allclose(warm.coef_, cold.coef_, rtol=0, atol=1e-5)
    assert not np.array_equal(warm.coef_, first)  # the weights of the first fit stay as they were
    again = warm.fit(inputs, y + 0.001 * inputs[:, 0], tasks)
    assert again.n_iter_ == 1 < cold.n_iter_


def test_a_warm_start_from_weights_of_another_shape_is_a_cold_one():
    inputs, y, tasks = world()
    model = BlockSparseRegression(0.1, warm_start=True).fit(inputs[:, :4], y)
    model.fit(inputs, y, tasks)
    assert np.array_equal(model.coef_, BlockSparseRegression(0.1).fit(inputs, y, tasks).coef_)


def test_too_few_iterations_are_a_warning_that_says_what_to_do():
    inputs, y, tasks = world()
    model = BlockSparseRegression(0.01, max_iter=2)
    with pytest.warns(ConvergenceWarning, match=r"after 2 iterations, .* increase max_iter"):
        model.fit(inputs, y, tasks)
    assert model.n_iter_ == 2


def test_names_of_features_are_kept_and_checked():
    inputs, y, tasks = world()
    frame = pd.DataFrame(inputs, columns=list("abcdef"))
    model = BlockSparseRegression(0.1).fit(frame, y, tasks)
    assert model.feature_names_in_.tolist() == list("abcdef")
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[list("fedcba")])


def test_an_unfitted_model_says_so():
    with pytest.raises(NotFittedError):
        BlockSparseRegression().predict(np.zeros((1, 2)))


def test_a_table_of_targets_cannot_have_tasks():
    inputs, y, tasks = world()
    with pytest.raises(UsageError, match=r"y has shape \(60, 2\): pass y of shape \(60,\)"):
        BlockSparseRegression().fit(inputs, np.stack([y, y], axis=1), tasks)


def test_labels_must_be_one_a_row():
    inputs, y, tasks = world()
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        BlockSparseRegression().fit(inputs, y, tasks[:-1])


def test_an_unknown_task_is_refused():
    inputs, y, tasks = world()
    model = BlockSparseRegression().fit(inputs, y, tasks)
    with pytest.raises(UsageError, match=r"no weights for the tasks \['rice'\].*'barley', 'maize'"):
        model.predict(inputs[:2], ["wheat", "rice"])


def test_a_model_without_tasks_cannot_predict_one():
    inputs, y, _ = world()
    model = BlockSparseRegression().fit(inputs, y)
    with pytest.raises(UsageError, match="was fitted without tasks: leave tasks out"):
        model.predict(inputs, np.zeros(60))


@pytest.mark.parametrize(
    ("name", "value", "range_"),
    [
        ("max_iter", 0, r"an int in the range \[1, inf\)"),
        ("max_iter", 1.5, r"an int in the range \[1, inf\)"),
        ("max_iter", True, r"an int in the range \[1, inf\)"),
        ("tol", -1.0, r"a float in the range \[0\.0, inf\)"),
        ("tol", "small", r"a float in the range \[0\.0, inf\)"),
        ("warm_start", 2, "an instance of 'bool'"),
        ("fit_intercept", "yes", "an instance of 'bool'"),
    ],
)
def test_a_parameter_out_of_range_is_told_in_scikit_learns_words(name, value, range_):
    inputs, y, _ = world()
    model = BlockSparseRegression().set_params(**{name: value})
    told = f"The '{name}' parameter of BlockSparseRegression must be {range_}. Got {value!r}"
    with pytest.raises(UsageError, match=told):
        model.fit(inputs, y)


def test_a_task_with_one_scored_row_does_not_make_the_score_nan():
    inputs, y, tasks = world()
    model = BlockSparseRegression(0.1).fit(inputs, y, tasks)
    rows = np.concatenate([np.flatnonzero(tasks != "wheat"), np.flatnonzero(tasks == "wheat")[:1]])
    others = np.flatnonzero(tasks != "wheat")
    found = model.score(inputs[rows], y[rows], tasks=tasks[rows])
    assert found == model.score(inputs[others], y[others], tasks=tasks[others])
    weights = (np.arange(60) != 0).astype(float)
    assert np.isfinite(model.score(inputs[:4], y[:4], weights[:4], np.repeat(["maize"], 4)))
    first = [int(np.flatnonzero(tasks == task)[0]) for task in model.tasks_]
    with pytest.raises(UsageError, match="R² needs two scored rows of a task, and no task has"):
        model.score(inputs[first], y[first], tasks=tasks[first])


def test_a_grid_search_with_a_rare_task_chooses_by_the_others():
    inputs, y, tasks = world(90)
    tasks = np.where(np.arange(90) == 3, "rare", tasks)
    tasks = np.where(np.arange(90) == 60, "rare", tasks)
    with sklearn.config_context(enable_metadata_routing=True):
        model = BlockSparseRegression()
        model.set_fit_request(tasks=True)
        model.set_score_request(tasks=True)
        # The first of equals, as of NaNs, would be 10.
        search = GridSearchCV(model, {"alpha": [10.0, 0.1]}, cv=2).fit(inputs, y, tasks=tasks)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_params_["alpha"] == 0.1


@pytest.mark.parametrize("missing", [np.nan, None, pd.NA])
@pytest.mark.parametrize("known", ["wheat", 1.0])
def test_a_missing_task_label_is_no_task(missing, known):
    inputs, y, _ = world()
    tasks = [known] * 59 + [missing]
    with pytest.raises(UsageError, match="1 of 60 rows have no task label, the row 59"):
        BlockSparseRegression().fit(inputs, y, tasks)
    with pytest.raises(UsageError, match="1 of 60 rows have no task label"):
        BlockSparseRegression().fit(inputs, y, pd.Series(tasks))


@pytest.mark.parametrize("as_series", [False, True])
def test_task_labels_of_several_types_are_refused(as_series):
    inputs, y, _ = world()
    tasks = [0, "wheat"] * 30
    with pytest.raises(UsageError, match="several types, number, str: make all of them strings"):
        BlockSparseRegression().fit(inputs, y, pd.Series(tasks) if as_series else tasks)


def test_the_number_1_is_not_the_task_named_1():
    inputs, y, _ = world()
    model = BlockSparseRegression().fit(inputs, y, ["1", "2"] * 30)
    with pytest.raises(UsageError, match=r"no weights for the tasks \[1\]"):
        model.predict(inputs, np.ones(60, dtype=int))
