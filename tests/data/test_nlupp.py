"""NLU++ on small files written here, and against the published counts."""

import json

import pytest
import torch

from mtlbook.data import nlupp


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Two folds of banking, one of hotels; fold 10 comes behind fold 2."""
    folds = {
        "banking_fold2": [{"text": "close my card", "intents": ["card", "close"]}],
        "banking_fold10": [{"text": "yes please", "intents": ["affirm"]}, {"text": "hm"}],
        "hotels_fold0": [{"text": "yes please, a room", "intents": ["affirm", "room"]}],
    }
    for name, rows in folds.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
    monkeypatch.setattr(nlupp, "fetch", lambda name: tmp_path)


@pytest.mark.usefixtures("small")
def test_each_domain_is_a_data_set_of_its_own_intents():
    data = nlupp.load(inputs=32)
    assert [(task.name, task.outputs) for task in data.tasks] == [("banking", 3), ("hotels", 2)]
    assert data.targets["banking"][:3].tolist() == [[0, 1, 1], [1, 0, 0], [0, 0, 0]]
    assert data.targets["hotels"][3].tolist() == [1, 1]
    assert data.labelled["hotels"].tolist() == [False, False, False, True]
    assert data.inputs.dtype == torch.float64
    # Words and pairs of neighbours, hashed: "yes", "please" and "yes please" are in both.
    assert data.inputs[1].sum() == 3
    assert (data.inputs[3] >= data.inputs[1]).all()


def test_the_published_counts(downloaded):
    downloaded("nlupp")
    data = nlupp.load()
    assert {name: int(own.sum()) for name, own in data.labelled.items()} == {
        "banking": 2071,
        "hotels": 1009,
    }
    assert [task.outputs for task in data.tasks] == [48, 40]
    intents = [set().union(*nlupp.read(nlupp.fetch("nlupp"), own)[1]) for own in nlupp.DOMAINS]
    assert len(intents[0] & intents[1]) == 26
