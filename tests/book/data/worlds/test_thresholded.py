"""A Gaussian quantity and its thresholds."""

import pytest
import torch
from torch.nn import functional as F

from mtlbook.book.data.worlds.thresholded import cut_above, thresholded
from mtlbook.errors import UsageError


@pytest.mark.parametrize("explained", [0.0, 0.8, 1.0])
def test_shares_above_the_cuts_and_the_variance_are_what_is_said(explained):
    made = thresholded(2, rows=40_000, prevalence=0.1, second=0.6, explained=explained)
    targets = made.data.targets
    assert float(targets["label"].mean()) == pytest.approx(0.1, abs=0.01)
    assert float(targets["second"].mean()) == pytest.approx(0.6, abs=0.02)
    assert float(targets["degree"].var()) == pytest.approx(1.0, abs=0.03)
    error = targets["degree"] - made.noiseless["degree"]
    assert float(error.var()) == pytest.approx(1 - explained, abs=0.02)
    assert made.least_loss["degree"] == pytest.approx(1 - explained)


def test_the_labels_are_thresholds_of_the_degree():
    targets = thresholded(0, rows=500, prevalence=0.25).data.targets
    for name in ("label", "second"):
        above = targets[name] == 1
        assert float(targets["degree"][~above].max()) < float(targets["degree"][above].min())


def test_the_least_loss_is_that_of_the_true_chance():
    made = thresholded(1, rows=200_000, prevalence=0.1, explained=0.8)
    cut = (made.data.targets["degree"][made.data.targets["label"] == 0]).max()
    chance = torch.special.ndtr((made.noiseless["degree"] - cut) / 0.2**0.5)
    loss = F.binary_cross_entropy(chance, made.data.targets["label"])
    assert made.least_loss["label"] == pytest.approx(float(loss), abs=0.003)
    known = thresholded(1, rows=50, explained=1.0)
    assert known.least_loss["label"] == 0


def test_the_prevalence_moves_the_label_alone_and_fewer_rows_are_the_first():
    few, many = (thresholded(5, rows=n, prevalence=p) for n, p in ((30, 0.5), (60, 0.05)))
    assert torch.equal(few.data.inputs, many.data.inputs[:30])
    for name in ("degree", "second"):
        assert torch.equal(few.data.targets[name], many.data.targets[name][:30])


def test_without_a_signal_the_input_says_nothing():
    made = thresholded(3, rows=1000, explained=0.0)
    assert bool((made.noiseless["degree"] == 0).all())


def test_the_cut_of_a_known_quantity_is_its_quantile():
    means = torch.arange(101.0, dtype=torch.float64)[:, None]
    assert cut_above(0.25, means, spread=0.0) == pytest.approx(75.0)


@pytest.mark.parametrize("dial", [{"prevalence": 0.0}, {"second": 1.0}, {"explained": 1.5}])
def test_impossible_dials_are_refused(dial):
    with pytest.raises(UsageError, match="between 0 and 1"):
        thresholded(0, rows=10, **dial)
