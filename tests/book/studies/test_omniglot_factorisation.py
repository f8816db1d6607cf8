"""The study of Omniglot: its networks and all of it on made-up drawings."""

import numpy as np
import pytest
import torch

from mtlbook.book.studies import omniglot_factorisation as study
from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.randomness import generator
from mtlbook.tasks import Task

SEEDS = [0, 1]


def drawings() -> MultiTaskData:
    """Two alphabets of three and four characters, whose brightness in a place tells which."""
    sets = {}
    for name, characters in (("aleph", 3), ("beth", 4)):
        labels = torch.arange(10 * characters) % characters
        images = 0.3 * torch.rand(len(labels), 1, 15, 15, generator=generator(0, name))
        images.flatten(1)[torch.arange(len(labels)), 9 * labels] = 1.0
        sets[Task.classification(name, classes=characters)] = (images, labels)
    return MultiTaskData.several(sets)


def test_the_networks_have_the_size_that_the_protocol_tells():
    sizes = {
        widths: sum(
            values.numel()
            for stage in study.convolutional(*widths)()
            for values in stage.parameters()
        )
        for widths in (study.WIDTHS, study.WIDE)
    }
    first, second, features = 6 * 10, 12 * (6 * 9 + 1), 24 * (12 * 16 + 1)
    assert sizes[study.WIDTHS] == first + second + features
    # Rank 2: twice a network's weights, five pairs of mixing weights a layer, five tasks' biases.
    factors = 2 * (sizes[study.WIDTHS] - 42) + 3 * 2 * 5 + 5 * 42
    assert sizes[study.WIDE] == pytest.approx(factors, rel=0.35)
    x = torch.zeros(2, 1, study.SIDE, study.SIDE)
    assert torch.nn.Sequential(*study.convolutional(6, 12, 24)())(x).shape == (2, 24)


def test_the_whole_study_at_a_tiny_size(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(study, "alphabets", drawings)
    results = study.run(SEEDS, "cpu", steps=2, more_steps=2)
    assert results.columns.tolist() == ["seed", "method", "task", "metric", "value"]
    assert set(results.method) == set(study.METHODS)
    assert len(results) == len(SEEDS) * len(study.METHODS) * 2 * 2
    errors = results.value[results.metric == "error"]
    assert errors.between(0, 1).all()
    assert np.isfinite(results.value).all()
