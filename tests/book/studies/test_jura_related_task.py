"""The study of cadmium in the Jura, on made-up places."""

import numpy as np
import pytest
import torch

from mtlbook.book.studies import jura_related_task as study
from mtlbook.data.scaling import RawTable
from mtlbook.randomness import generator
from mtlbook.tasks import Task

SEEDS = [0, 1]


def places(name: str = "jura") -> RawTable:
    """Three metals that follow one law of four inputs."""
    assert name == "jura"
    inputs = torch.randn(60, 4, generator=generator(0, "places"), dtype=torch.float64)
    noise = torch.randn(60, 3, generator=generator(0, "metals"), dtype=torch.float64)
    metals = 5 + inputs.sum(1, keepdim=True) + 0.3 * noise
    names = ("Cd", "Co", "Cu")
    return RawTable(
        tuple(Task.regression(metal) for metal in names),
        inputs,
        {metal: metals[:, [column]] for column, metal in enumerate(names)},
        dict.fromkeys(names, torch.ones(60, dtype=torch.bool)),
    )


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(study.mulan, "load", places)
    for name, count in {"ROWS": 10, "TRAIN": 30, "VALIDATION": 10, "TEST": 20}.items():
        monkeypatch.setattr(study, name, count)


def test_cadmium_is_known_at_few_places_and_the_others_at_more():
    for related, expected in ((None, 30), (10, 10)):
        own = study.setting(places(), related_rows=related)
        split = own.split.draw(own.data(1), 1)
        known = {name: split.labelled[name][split.train] for name in ("Cd", "Co", "Cu")}
        assert {name: int(marks.sum()) for name, marks in known.items()} == {
            "Cd": 10,
            "Co": expected,
            "Cu": expected,
        }
        assert own.related_rows == expected
        assert bool(known["Co"][known["Cd"]].all())  # where cadmium is, the others are, too


def test_targets_are_in_units_of_their_training_labels():
    own = study.setting(places())
    data, split = own.data(1), own.split.draw(own.data(1), 1)
    train = split.train[split.labelled["Cd"][split.train]]
    assert float(data.targets["Cd"][train].mean().abs()) < 1e-9


def test_the_control_permutes_the_other_metals_alone():
    plain, mixed = (study.setting(places(), mixed_up=up).data(1) for up in (False, True))
    assert torch.equal(plain.targets["Cd"], mixed.targets["Cd"])
    assert not torch.equal(plain.targets["Co"], mixed.targets["Co"])


def test_the_whole_study_at_a_tiny_size():
    results = study.run(SEEDS, "cpu", steps=20)
    assert results.columns.tolist() == ["seed", "method", "metric", "value"]
    assert len(results) == 6 * len(SEEDS)
    assert results.method.nunique() == 6
    assert np.isfinite(results.value).all()
