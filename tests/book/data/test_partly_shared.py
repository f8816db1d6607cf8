"""Tasks that share some of their hidden features, layer by layer."""

import pytest
import torch

from mtlbook.book.data.partly_shared import partly_shared_tasks
from mtlbook.errors import UsageError

NAMES = ["a", "b"]


def correlation(made):
    signals = torch.cat([made.noiseless[name] for name in NAMES], dim=1)
    return float(torch.corrcoef(signals.T)[0, 1])


def with_equal_heads(monkeypatch, common):
    """The tasks differ in their own features alone: heads and reference are the same."""
    from mtlbook.book.data import partly_shared

    drawn = partly_shared.generator

    def same_heads(seed, *purpose):
        return drawn(seed, *("head", "a") if purpose[0] == "head" else purpose)

    monkeypatch.setattr(partly_shared, "generator", same_heads)
    return partly_shared_tasks(3, tasks=NAMES, rows=4_000, common=common)


@pytest.mark.parametrize(("common", "least", "most"), [((4, 4), 1.0, 1.0), ((0, 0), -0.15, 0.15)])
def test_common_features_are_the_same_functions(monkeypatch, common, least, most):
    found = correlation(with_equal_heads(monkeypatch, common))
    assert least - 1e-9 <= found <= most + 1e-9


def test_part_of_the_features_in_common_lies_in_between(monkeypatch):
    found = correlation(with_equal_heads(monkeypatch, (4, 2)))
    assert 0.2 < found < 0.999


def test_signals_have_variance_one_and_the_noise_is_what_is_said():
    made = partly_shared_tasks(0, tasks=NAMES, rows=20_000, noise=0.3)
    for name in NAMES:
        assert float(made.noiseless[name].var()) == pytest.approx(1.0, abs=0.05)
        error = made.data.targets[name] - made.noiseless[name]
        assert float(error.std()) == pytest.approx(0.3, abs=0.01)
        assert made.least_loss[name] == pytest.approx(0.09)


def test_fewer_rows_are_the_first_and_other_tasks_change_nothing():
    many = partly_shared_tasks(1, tasks=["a", "b", "c"], rows=50)
    few = partly_shared_tasks(1, tasks=["b"], rows=20)
    assert torch.equal(few.data.inputs, many.data.inputs[:20])
    assert torch.equal(few.data.targets["b"], many.data.targets["b"][:20])


@pytest.mark.parametrize("common", [(2, 4), (5, 4), (4, -1)])
def test_an_impossible_number_of_common_features_is_refused(common):
    with pytest.raises(UsageError, match="common must fall"):
        partly_shared_tasks(0, tasks=NAMES, rows=5, common=common)
