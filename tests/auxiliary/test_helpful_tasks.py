"""Forecasts of gains: judged without the left-out task, against rules without features."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from mtlbook.auxiliary.helpful_tasks import (
    both_identities,
    judge,
    leave_one_task_out,
    predict_gains,
    rank_agreement,
    task_identity,
)
from mtlbook.auxiliary.task_features import pair_features
from mtlbook.errors import UsageError

NAMES = list("abcdefgh")


def pairs_of(columns):
    return pair_features(pd.DataFrame(columns, index=NAMES))


@pytest.fixture
def drawn():
    source = np.random.default_rng(0)
    features = pairs_of({f"x{n}": source.standard_normal(8) for n in range(3)})
    return features, pd.Series(source.standard_normal(len(features)), features.index)


def test_a_left_out_task_has_no_say_in_its_own_predictions(drawn):
    features, gains = drawn
    before = leave_one_task_out(features, gains)
    of_b = np.array(["b" in pair for pair in features.index])
    after = leave_one_task_out(features, gains.where(~of_b, -gains))
    new_auxiliary = features.index.get_level_values("auxiliary") == "b"
    new_main = features.index.get_level_values("main") == "b"
    same = before["new auxiliary"][new_auxiliary], after["new auxiliary"][new_auxiliary]
    assert np.array_equal(*same)
    assert np.array_equal(before["new main"][new_main], after["new main"][new_main])
    assert not np.allclose(before["new main"], after["new main"])


def test_the_main_task_alone_knows_all_or_nothing():
    index = pairs_of({"x": np.zeros(8)}).index
    gains = pd.Series([1.0 if main in "abcd" else -1.0 for main, _ in index], index)
    said = leave_one_task_out(task_identity(index, "main"), gains)
    assert judge(said["new auxiliary"], gains, "auxiliary").area == 1.0
    assert judge(said["new auxiliary"], gains, "auxiliary").error == 0.0
    assert judge(said["new main"], gains, "main").area == 0.5


def test_an_auxiliary_is_judged_against_what_its_main_tasks_gain_anyway():
    """By gains that depend on the main task alone no auxiliary looks better than another."""
    index = pairs_of({"x": np.zeros(8)}).index
    gains = pd.Series([1.0 if main in "abc" else -1.0 for main, _ in index], index)
    own = task_identity(index, "auxiliary")
    of_h = index.get_level_values("main") == "h"
    spurious, fair = (
        leave_one_task_out(features, gains)["new main"][of_h]
        for features in (own, both_identities(index))
    )
    assert np.std(fair) < 0.5 * np.std(spurious)


def test_the_area_is_the_usual_one_for_a_single_left_out_task(drawn):
    features, gains = drawn
    own = gains[gains.index.get_level_values("main") == "c"]
    said = features["auxiliary x0"][own.index]
    assert judge(said, own, "main").area == pytest.approx(roc_auc_score(own > 0, said), abs=1e-12)


def test_shuffled_gains_leave_every_rule_at_chance():
    source = np.random.default_rng(1)
    features = pairs_of({f"x{n}": source.standard_normal(8) for n in range(3)})
    areas = []
    for _ in range(40):
        gains = pd.Series(source.standard_normal(len(features)), features.index)
        said = leave_one_task_out(features, gains)["new auxiliary"]
        areas.append(judge(said, gains, "auxiliary").area)
    assert np.mean(areas) == pytest.approx(0.5, abs=3 * np.std(areas) / 40**0.5 + 0.01)


def test_unmeasured_pairs_are_predicted_and_rules_without_features_stand_beside(drawn):
    features, _ = drawn
    source = np.random.default_rng(2)
    gains = features["auxiliary x0"] + 0.1 * source.standard_normal(len(features))
    known = gains.where(source.random(len(gains)) < 0.8)
    forecast = predict_gains(features, known)
    unknown = known.isna()
    right = (forecast.probability[unknown] > 0.5) == (gains[unknown] > 0)
    assert right.mean() > 0.7
    assert forecast.always.error == pytest.approx((known.dropna() <= 0).mean())
    assert forecast.always.area == 0.5
    assert forecast.trustworthy


def test_features_that_only_name_the_main_task_are_not_trustworthy():
    features = pairs_of({name: [float(name == own) for own in NAMES] for name in NAMES})
    source = np.random.default_rng(3)
    gains = pd.Series(
        [(1 if main in "abcd" else -1) + source.normal() for main, _ in features.index],
        features.index,
    )
    forecast = predict_gains(features, gains)
    assert forecast.new_auxiliary.area == pytest.approx(forecast.main_alone.area, abs=0.1)
    assert forecast.new_auxiliary.error >= forecast.main_alone.error - 0.05


def test_agreement_is_one_for_any_increasing_function_of_the_gains():
    gains = np.random.default_rng(0).standard_normal((6, 6))
    np.fill_diagonal(gains, np.nan)
    assert rank_agreement(np.exp(gains), gains) == 1.0
    assert rank_agreement(-gains, gains) == -1.0
    assert rank_agreement(np.zeros((6, 6)), gains) == 0.0


def bad(change):
    features = pairs_of({"x": np.arange(8.0)})
    gains = pd.Series(np.arange(len(features)) - 20.0, features.index)
    return lambda: predict_gains(*change(features, gains))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (bad(lambda f, g: (f, g.abs() + 1)), "one sign"),
        (bad(lambda f, g: (f.replace(3.0, np.nan), g)), "not finite"),
        (bad(lambda f, g: (f.iloc[:5], g)), "without features"),
        (bad(lambda f, g: (f, g.iloc[:2])), "at least 4"),
        (bad(lambda f, g: (f, g.rename_axis(["a", "b"]))), "ordered pairs"),
    ],
)
def test_bad_input_is_one_clear_error(call, message):
    with pytest.raises(UsageError, match=message):
        call()
