"""The steps that generators share, and what a synthetic data set says of itself."""

import pytest
import torch

from mtlbook.data.constructed import related_tasks
from mtlbook.data.sparse_tasks import sparse_tasks
from mtlbook.data.synthetic import (
    check_counts,
    check_noise,
    check_shares,
    mixed,
    unit_variance,
    with_noise,
)
from mtlbook.errors import UsageError
from mtlbook.randomness import generator, standard_normal


def test_mixed_numbers_have_unit_variance_and_correlate_by_the_share():
    common, *owns = (standard_normal(generator(0, n), 50_000, 1)[:, 0] for n in range(3))
    first, second = (mixed(0.3, common, own) for own in owns)
    found = torch.cov(torch.stack([first, second]))
    expected = torch.tensor([[1, 0.3], [0.3, 1]], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02)


def test_scaled_signals_have_unit_variance_on_the_reference_and_noise_its_own():
    x, reference = (standard_normal(generator(1, name), 20_000, 3) for name in ("x", "reference"))
    weights = torch.tensor([[1.0, 30.0], [2.0, 0.0], [0.0, -40.0]], dtype=torch.float64)
    signal = unit_variance(lambda rows: rows @ weights, x, reference)
    torch.testing.assert_close(signal.std(0), torch.ones(2).double(), rtol=0, atol=0.03)
    error = with_noise(signal, 0.5, generator(1, "noise")) - signal
    assert float(error.std()) == pytest.approx(0.5, abs=0.01)
    one = unit_variance(lambda rows: rows @ weights[:, 0], x, reference)
    torch.testing.assert_close(one, signal[:, :1])


def test_matrices_and_single_tasks_agree_with_the_data():
    made = related_tasks(0, tasks=3, rows=20, same_inputs=True)
    for column, task in enumerate(made.data.tasks):
        target = made.data.targets[task.name][:, 0]
        assert torch.equal(made.targets[:, column], target)
        assert torch.equal(made.alone(column).targets["alone"][:, 0], target)
        assert torch.equal(made.together(3).targets["together"][:, column], target)
    torch.testing.assert_close(made.signals + made.noise, made.targets)
    apart = related_tasks(0, tasks=3, rows=20)
    assert apart.inputs_by_task.shape == (3, 20, 20)
    assert apart.targets.shape == (20, 3)


def test_coefficients_of_linear_tasks_give_the_signals():
    made = sparse_tasks(0, tasks=2, rows=7)
    expected = torch.einsum("tnp,pt->nt", made.inputs_by_task, made.coefficients)
    torch.testing.assert_close(made.signals, expected)


def test_impossible_dials_are_refused_by_name():
    with pytest.raises(UsageError, match="rows must be at least 1, not 0"):
        check_counts(tasks=3, rows=0)
    with pytest.raises(UsageError, match=r"overlap is a share: .* not at 1\.5"):
        check_shares(overlap=1.5)
    for noise in (-0.1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="noise must be a number of at least 0"):
            check_noise(noise)
