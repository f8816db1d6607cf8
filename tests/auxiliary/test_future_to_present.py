"""LuPTS: its limits, an independent oracle, its variance in a chain, and what it refuses."""

import jaxtyping
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge

from mtlbook.auxiliary.future_to_present import LuPTS, future_columns
from mtlbook.errors import UsageError


def chain(seed=0, rows=50, noise=1.0):
    """Three times and an outcome, in uneven units."""
    draw = np.random.default_rng(seed)
    x1 = 3 + draw.normal(size=(rows, 6))
    x2 = x1 @ draw.normal(size=(6, 3)) + noise * draw.normal(size=(rows, 3))
    x3 = x2 @ draw.normal(size=(3, 2)) + noise * draw.normal(size=(rows, 2)) - 5
    y = x3 @ [1.0, -2.0] + noise * draw.normal(size=rows)
    return x1, {"b": x2, "a": x3}, y


def test_one_step_is_least_squares():
    x, _, y = chain()
    ours, theirs = LuPTS().fit(x, y, later={}), LinearRegression().fit(x, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-12)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-11)
    np.testing.assert_allclose(ours.predict(x), theirs.predict(x), rtol=1e-12)
    assert ours.score(x, y) == pytest.approx(theirs.score(x, y), abs=1e-12)


def test_the_product_of_the_steps_in_the_order_given():
    x, later, y = chain()
    model = LuPTS(["b", "a"]).fit(x, y, later=later)
    with_one = [np.column_stack([np.ones(len(x)), t]) for t in (x, later["b"], later["a"])]
    now = with_one[0]
    for a, b in zip(with_one, [*with_one[1:], y], strict=True):
        now = now @ np.linalg.solve(a.T @ a, a.T @ b)
    np.testing.assert_allclose(model.predict(x), now, atol=1e-10)
    np.testing.assert_allclose(x @ model.coef_ + model.intercept_, now, atol=1e-10)
    np.testing.assert_allclose(
        model.expected(x) @ model.last_.coef_ + model.last_.intercept_, now, atol=1e-10
    )
    backwards = LuPTS(["a", "b"]).fit(x, y, later=later)
    assert np.abs(backwards.predict(x) - now).max() > 0.1


def test_carrying_everything_along_is_least_squares():
    x, later, y = chain()
    whole = {"b": np.hstack([x, later["b"]])}
    names = [str(number) for number in range(6)]
    model = LuPTS(["b"], carried=names).fit(x, y, later=whole)
    np.testing.assert_allclose(model.predict(x), LinearRegression().fit(x, y).predict(x), atol=1e-9)


def test_steps_without_noise_that_lose_nothing_are_least_squares():
    x, _, y = chain()
    turned = x @ np.random.default_rng(1).normal(size=(6, 6))
    model = LuPTS(["b"]).fit(x, y, later={"b": turned})
    np.testing.assert_allclose(model.predict(x), LinearRegression().fit(x, y).predict(x), atol=1e-9)


def test_in_a_chain_its_variance_is_below_that_of_least_squares():
    draw = np.random.default_rng(0)
    x1 = draw.normal(size=(20, 6))
    a, b = np.linalg.qr(draw.normal(size=(6, 2)))[0], np.array([1.0, 1.0])
    found = {"ours": [], "theirs": []}
    for _ in range(400):
        x2 = x1 @ a + 0.7 * draw.normal(size=(20, 2))
        y = x2 @ b + draw.normal(size=20)
        found["ours"].append(LuPTS(["b"]).fit(x1, y, later={"b": x2}).coef_)
        found["theirs"].append(LinearRegression().fit(x1, y).coef_)
    variance = {name: np.var(own, axis=0) for name, own in found.items()}
    assert (variance["ours"] < variance["theirs"]).all()
    np.testing.assert_allclose(np.mean(found["ours"], axis=0), a @ b, atol=0.1)  # no bias


def test_a_class_at_the_end_and_a_ridge_between():
    x, later, y = chain(rows=80)
    label = (y > np.median(y)).astype(int)
    model = LuPTS(["b", "a"], step=Ridge(10.0), last=LogisticRegression())
    model.fit(pd.DataFrame(x), label, later=later)
    chances = model.predict_proba(x)
    np.testing.assert_allclose(chances.sum(1), 1)
    log_odds = np.log(chances[:, 1] / chances[:, 0])
    sure = abs(log_odds) > 15  # whose chances round
    ours = x @ model.coef_ + model.intercept_
    np.testing.assert_allclose(ours[~sure], log_odds[~sure], atol=1e-7)
    assert model.score(x, label) == np.mean((chances[:, 1] > 0.5) == label)


def test_future_columns_names_each_pair():
    now = pd.DataFrame(np.random.default_rng(0).normal(size=(20, 3)), columns=["p", "q", "r"])
    later = pd.DataFrame({"same": now.p, "other": now.p * now.q, "units": 7 - 2 * now.r})
    assert future_columns(now, later) == [("p", "same"), ("r", "units")]
    assert future_columns(now, later, carried=["p"]) == [("r", "units")]
    assert future_columns(now[:5], later[:5]) == []  # so few rows are soon equal
    assert future_columns(now.assign(p=1.0), later.assign(same=2.0)) == [("r", "units")]


@pytest.mark.parametrize(
    ("order", "change", "message"),
    [
        (["b"], {}, r"The order of time is \['b'\].*\['a', 'b'\]"),
        (["b", "b", "a"], {}, "name each time once"),
        ("ba", {}, "order as a list"),
        (["b", "a"], {"a": np.ones((49, 2))}, "'a' has 49 rows where the present has 50"),
        (["b", "a"], {"a": np.ones((50, 1))}, r"\['0'\] of 'a' do not vary"),
        (["b", "a"], {"a": np.full((50, 1), np.nan)}, "50 of 50 rows of 'a' hold missing values"),
        (["b", "a"], {"a": np.ones(50)}, r"'a' have the shape \(50,\)"),
    ],
)
def test_what_cannot_be_is_refused(order, change, message):
    x, later, y = chain()
    with pytest.raises(UsageError, match=message):
        LuPTS(order).fit(x, y, later=later | change)


def test_times_without_names_are_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is for users
    x, later, y = chain()
    with pytest.raises(UsageError, match="by the name of their time"):
        LuPTS(["b"]).fit(x, y, later=[later["b"]])  # pyright: ignore[reportArgumentType]


def test_an_input_that_is_a_later_measurement_is_refused_by_name():
    x, later, y = chain()
    now = pd.DataFrame(x, columns=list("uvwxyz")).assign(sugar=later["b"][:, 1] * 18 - 4)
    labs = pd.DataFrame(later["b"], columns=["salt", "sugar, day 2", "fat"])
    with pytest.raises(UsageError, match="'sugar' is 'sugar, day 2' of 'b', up to shift and scale"):
        LuPTS(["b"]).fit(now, y, later={"b": labs})
    LuPTS(["b"], carried=["sugar"]).fit(now, y, later={"b": labs})
    with pytest.raises(UsageError, match=r"\['age'\] are carried along"):
        LuPTS(["b"], carried=["age"]).fit(now, y, later={"b": labs})
