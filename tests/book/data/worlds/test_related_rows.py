"""Rows of a related task, whose weights or features turn by a dial."""

from typing import Any

import pytest
import torch

from mtlbook.book.data.worlds.related_rows import FEATURES, related_rows
from mtlbook.errors import UsageError

CLOSE: dict[str, Any] = {"rtol": 0.0, "atol": 1e-12}


@pytest.mark.parametrize("cosine", [-1.0, 0.0, 0.7, 1.0])
def test_the_dial_is_the_cosine_of_unit_weights(cosine):
    made = related_rows(3, rows=4, cosine=cosine)
    w, other = made.heads["main"], made.heads["related"]
    assert float(w.norm()) == pytest.approx(1.0, abs=1e-12)
    assert float(other.norm()) == pytest.approx(1.0, abs=1e-12)
    assert float(w @ other) == pytest.approx(cosine, abs=1e-12)


@pytest.mark.parametrize("cosine", [0.0, 0.7, 1.0])
def test_nonlinear_features_turn_by_the_dial_and_heads_are_their_own(cosine):
    made = related_rows(3, rows=4, cosine=cosine, linear=False)
    a, other = made.features["main"], made.features["related"]
    eye = torch.eye(FEATURES, dtype=torch.float64)
    torch.testing.assert_close(other.T @ other, eye, **CLOSE)
    torch.testing.assert_close(a.T @ other, cosine * eye, **CLOSE)
    assert not torch.isclose(made.heads["main"], made.heads["related"]).any()


@pytest.mark.parametrize("linear", [True, False])
def test_signals_have_variance_one_and_the_noise_is_what_is_said(linear):
    noise = {"main": 0.5, "related": 2.0}
    made = related_rows(1, rows=20_000, noise=noise, linear=linear)
    for name, sigma in noise.items():
        labels = made.data.targets[name][made.data.labelled[name]]
        error = labels - made.noiseless[name]
        assert float(made.noiseless[name].var()) == pytest.approx(1.0, abs=0.05)
        assert float(error.std()) == pytest.approx(sigma, rel=0.03)
        assert made.least_loss[name] == sigma**2


def test_the_linear_signal_is_that_of_the_weights():
    made = related_rows(2, rows=6)
    for name in ("main", "related"):
        own = made.data.inputs[made.data.labelled[name]]
        torch.testing.assert_close(own @ made.heads[name], made.noiseless[name][:, 0], **CLOSE)


def test_rows_are_each_tasks_own_or_the_same_with_noise_of_their_own():
    own, same = related_rows(0, rows=5), related_rows(0, rows=5, same_rows=True)
    assert own.data.rows == 10
    assert not (own.data.labelled["main"] & own.data.labelled["related"]).any()
    assert same.data.rows == 5
    assert torch.equal(own.data.inputs[:5], same.data.inputs)
    torch.testing.assert_close(same.noiseless["main"], same.noiseless["related"], **CLOSE)
    assert not torch.isclose(same.targets[:, 0], same.targets[:, 1]).any()


def test_fewer_rows_are_the_first_and_a_further_task_changes_nothing():
    few = related_rows(1, rows=7, cosine={"related": 0.3})
    many = related_rows(
        1, rows=9, tasks=("main", "related", "far"), cosine={"related": 0.3, "far": 0.0}
    )
    for name in ("main", "related"):
        shorter, longer = (own.data.targets[name][own.data.labelled[name]] for own in (few, many))
        torch.testing.assert_close(shorter, longer[:7], **CLOSE)


@pytest.mark.parametrize(
    ("dials", "told"),
    [
        ({"rows": 0}, "rows must be at least 1"),
        ({"cosine": 1.5}, "between -1 and 1"),
        ({"noise": -1.0}, "noise"),
        ({"cosine": {"far": 0.5}}, "one for each of"),
        ({"noise": {"related": 1.0}}, "one for each of"),
    ],
)
def test_impossible_dials_are_refused(dials, told):
    with pytest.raises(UsageError, match=told):
        related_rows(0, **({"rows": 3} | dials))
