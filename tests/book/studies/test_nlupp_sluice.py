"""The study of sluice networks: its networks, and all of it on made-up utterances."""

import numpy as np
import pytest
import torch

from mtlbook.book.studies import nlupp_sluice as study
from mtlbook.data import Holdout, MultiTaskData
from mtlbook.tasks import Task

SEEDS = [0, 1]
METHODS = [
    "single-task",
    "hard sharing",
    "best split",
    "cross-stitch",
    "sluice",
    "shuffled auxiliary",
]


def made_up() -> MultiTaskData:
    """Utterances at random of two domains; the first intent of each is one of its words."""
    random = torch.Generator().manual_seed(0)
    sets = {}
    for domain, intents in (("banking", 4), ("hotels", 3)):
        inputs = (torch.rand(60, study.INPUTS, generator=random) < 0.3).double()
        sets[Task.binary(domain, outputs=intents)] = (inputs, inputs[:, :intents])
    return MultiTaskData.several(sets)


def test_the_networks_have_the_size_that_the_protocol_tells():
    data = made_up()
    first, second = study.WIDTH * (study.INPUTS + 1), study.WIDTH * (study.WIDTH + 1)
    heads = (4 + 3) * (study.WIDTH + 1)
    expected = {0: 2 * (first + second), 1: first + 2 * second, 2: first + second}
    for shared, size in expected.items():
        model = study.split_network(data, 0, shared=shared)
        assert sum(own.numel() for own in model.parameters()) == size + heads
    model = study.sluice_network(data, 0, same=0.5)
    own = 2 * 16 + 2 * 2  # α behind both layers, and β
    assert sum(own.numel() for own in model.parameters()) == expected[0] + heads + own
    model = study.stitched_network(data, 0, same=0.5)
    assert sum(own.numel() for own in model.parameters()) == expected[0] + heads + 2 * 4


def test_all_of_it_on_made_up_utterances(monkeypatch):
    monkeypatch.setattr(study.nlupp, "load", lambda inputs: made_up())
    split = Holdout(train=30, validation=10, test=20, labels={"banking": 20})
    table = study.run(SEEDS, "cpu", split=split, steps=3)
    assert list(table["method"].unique()) == METHODS
    assert len(table) == len(SEEDS) * len(METHODS) * 2 * 2
    assert np.isfinite(table["value"]).all()
    alone = table[(table["method"] == "single-task") & (table["metric"] == "loss")]
    values = np.asarray(alone["value"])
    assert ((values > 0.3) & (values < 1.5)).all()


def test_the_starts_are_those_of_the_protocol():
    model = study.sluice_network(made_up(), 0, same=0.7)
    assert torch.allclose(model.alpha[0].diagonal(), torch.full((4,), 0.7))
    assert model.beta[:, -1].tolist() == pytest.approx([0.9, 0.9])
    first, second = (
        model.get_parameter(f"columns.{name}.0.0.weight") for name in ("banking", "hotels")
    )
    assert torch.equal(first, second)
