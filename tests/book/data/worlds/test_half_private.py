"""Half of each layer's features common, half private."""

import pytest
import torch

from mtlbook.book.data.worlds.half_private import FEATURES, half_private, true_features
from mtlbook.errors import UsageError

NAMES = ["A", "B", "C"]


@pytest.mark.parametrize("shared", [0, 1, 2])
def test_the_targets_are_linear_in_the_true_features(shared):
    """Exactly: what the signals were computed from is what `true_features` returns."""
    made = half_private(3, rows=400, shared=shared)
    for name in NAMES:
        signal = true_features(3, made.data.inputs, name, shared=shared)[-1] @ made.heads[name]
        noiseless = made.noiseless[name][:, 0]
        scale = (signal @ noiseless) / (signal @ signal)
        torch.testing.assert_close(scale * signal, noiseless, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("shared", "widths"), [(0, [0, 0]), (1, [2, 0]), (2, [2, 2])])
def test_the_dial_is_the_layer_up_to_which_half_is_common(shared, widths):
    inputs = half_private(0, rows=9).data.inputs
    few, many, _ = (true_features(0, inputs, name, shared=shared) for name in NAMES)
    for own, other, width in zip(few, many, widths, strict=True):
        assert own.shape == (9, FEATURES)
        assert torch.equal(own[:, :width], other[:, :width])
        assert not torch.isclose(own[:, width:], other[:, width:]).all(0).any()


def test_signals_have_variance_one_and_the_noise_is_what_is_said():
    made = half_private(0, rows=20_000, noise=0.2)
    for name in NAMES:
        assert float(made.noiseless[name].var()) == pytest.approx(1.0, abs=0.05)
        error = made.data.targets[name] - made.noiseless[name]
        assert float(error.std()) == pytest.approx(0.2, abs=0.01)
        assert made.least_loss[name] == pytest.approx(0.04)


def test_fewer_rows_are_the_first():
    many, few = half_private(1, rows=50), half_private(1, rows=20)
    assert torch.equal(few.data.inputs, many.data.inputs[:20])
    assert torch.equal(few.data.targets["A"], many.data.targets["A"][:20])


def test_a_layer_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="0 to 2, not 3"):
        half_private(0, rows=5, shared=3)
