"""Standardising against scikit-learn, and what must not change it."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from mtlbook.data.scaling import standardised


def test_agrees_with_scikit_learn():
    table = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    table = 3 * table + torch.tensor([0.0, 1.0, -5.0, 1000.0])
    expected = torch.from_numpy(StandardScaler().fit_transform(table.numpy()))
    torch.testing.assert_close(standardised(table), expected, rtol=0, atol=1e-10)


def test_a_constant_column_becomes_zero():
    # 0.1 is not a binary fraction: its mean over seven rows differs from it by rounding.
    table = torch.full((7, 1), 0.1, dtype=torch.float64)
    assert torch.equal(standardised(table), torch.zeros(7, 1, dtype=torch.float64))


@given(shift=st.floats(-100, 100), factor=st.floats(0.01, 100))
def test_units_do_not_matter(shift: float, factor: float):
    table = torch.tensor([[1.0, 2.0], [4.0, -1.0], [2.5, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(
        standardised(factor * table + shift), standardised(table), rtol=1e-6, atol=1e-8
    )
