"""The contestants of section 4.3: equal trials, and digits whose hard task is an XOR."""

import pytest
import torch

from mtlbook.book.experiments import eavesdropping
from mtlbook.book.page import Page
from mtlbook.book.parameters import OneOf


@pytest.fixture
def page(monkeypatch, tmp_path):
    monkeypatch.setenv("MTLBOOK_OUTPUT", str(tmp_path))
    monkeypatch.setattr(eavesdropping, "VALIDATION", 30)
    monkeypatch.setattr(eavesdropping, "TEST", 40)
    notebook = {"seeds": 2, "first_seed": 0, "device": "cpu", "dataset": "constructed"}
    return Page("4.3", notebook, dataset=OneOf("constructed"))


def test_every_contestant_has_as_many_trials_and_its_labels(page):
    setting = eavesdropping.from_features(labels=20, rows=60)
    alone = eavesdropping.tried(page, setting)
    joint = eavesdropping.tried(page, setting, "easy", labels=60)
    assert len(alone) == len(joint) == 12
    first = next(iter(joint.values()))
    assert [task.name for task in first.tasks] == ["hard", "easy"]
    assert first.test.shape == (2, 40)
    best = eavesdropping.chosen(page, setting)
    assert set(best.choices["hard"]) <= set(alone)


def test_the_hard_task_of_the_digits_is_the_xor_of_its_hints():
    data, shuffled = (
        eavesdropping.from_digits(labels=50, rows=400, shuffled=own).data(0)
        for own in (False, True)
    )
    hints = data.targets["hints"]
    assert torch.equal(data.targets["hard"][:, 0], (hints[:, 0] != hints[:, 1]).double())
    digit = data.targets["easy"]
    assert set(digit[data.targets["hard"][:, 0] == 1].tolist()) == {1, 3, 6, 8}
    assert torch.equal(shuffled.targets["hard"], data.targets["hard"])
    assert torch.equal(torch.bincount(shuffled.targets["easy"]), torch.bincount(digit))
    assert (shuffled.targets["easy"] == digit).double().mean() < 0.2
