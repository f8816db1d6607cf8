"""The league's own synthetic data sets: unrelated tasks, and unequal numbers of labels."""

import pytest
import torch

from mtlbook.book.data.worlds.unequal_labels import unequal_labels
from mtlbook.book.data.worlds.unrelated_tasks import unrelated_tasks
from mtlbook.data.multi_task_data import Consecutive
from mtlbook.errors import UsageError


def test_unrelated_tasks_are_drawn_scaled_and_noisy():
    made = unrelated_tasks(0, rows=20_000, noise=0.3)
    assert made.signals.var(0).tolist() == pytest.approx([1.0] * 4, abs=0.05)
    assert made.noise.std(0).tolist() == pytest.approx([0.3] * 4, abs=0.01)
    between = torch.corrcoef(made.signals.T) - torch.eye(4)
    assert float(between.abs().max()) < 0.03
    assert made.least_loss["task_1"] == pytest.approx(0.09)


@pytest.mark.parametrize("overlap", [0.0, 0.5, 1.0])
def test_the_overlap_is_that_of_the_directions(overlap):
    made = unrelated_tasks(1, rows=5, tasks=3, overlap=overlap)
    first, second = made.features["task_1"], made.features["task_3"]
    cosines = first.T @ second / 4  # of columns of length 2
    expected = torch.diag((torch.arange(4) < 4 * overlap).double())
    torch.testing.assert_close(cosines, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(first.T @ first / 4, torch.eye(4).double(), rtol=0, atol=1e-12)


def test_an_unrelated_tasks_signal_is_the_equation():
    made = unrelated_tasks(2, rows=50, tasks=2)
    x, name = made.data.inputs, "task_2"
    raw = torch.tanh(x @ made.features[name]) @ made.heads[name]
    ratio = made.noiseless[name][:, 0] / raw
    torch.testing.assert_close(ratio, ratio[:1].expand(50))


def test_fewer_rows_and_tasks_are_the_first():
    many, few = unrelated_tasks(3, rows=40, tasks=4), unrelated_tasks(3, rows=10, tasks=2)
    assert torch.equal(few.data.inputs, many.data.inputs[:10])
    assert torch.equal(few.data.targets["task_2"], many.data.targets["task_2"][:10])


def test_too_many_directions_are_refused():
    with pytest.raises(UsageError, match="need 24 orthogonal directions"):
        unrelated_tasks(0, rows=5, tasks=6)
    with pytest.raises(UsageError, match="multiple of 1/4"):
        unrelated_tasks(0, rows=5, overlap=0.3)


@pytest.mark.parametrize("ratio", [1, 10])
def test_labels_are_as_unequal_as_asked(ratio):
    made = unequal_labels(0, rows=95, held_out=30, ratio=ratio)
    split = Consecutive(train=95, validation=10, test=20).draw(made.data, seed=0)
    labels = {name: int(own[split.train].sum()) for name, own in split.labelled.items()}
    assert labels == {"few": 95 // ratio, "many": 95}
    assert all(bool(own[95:].all()) for own in split.labelled.values())


@pytest.mark.parametrize("shared", [0.0, 0.8, 1.0])
def test_the_tasks_features_correlate_by_the_dial(shared):
    made = unequal_labels(0, rows=20, held_out=0, inputs=4_000, shared_features=shared)
    both = torch.stack([own.flatten() for own in made.features.values()])
    assert float(torch.corrcoef(both)[0, 1]) == pytest.approx(shared, abs=0.02)


def test_signals_have_variance_one_and_the_noise_is_what_is_said():
    made = unequal_labels(1, rows=10, held_out=20_000)
    for name, clean in made.noiseless.items():
        assert float(clean.var()) == pytest.approx(1.0, abs=0.05)
        error = made.data.targets[name][made.data.labelled[name]] - clean
        assert float(error.std()) == pytest.approx(0.3, abs=0.01)


def test_a_task_without_labels_is_refused():
    with pytest.raises(UsageError, match="without a label"):
        unequal_labels(0, rows=9, held_out=5)
