"""Section 6.4's contestants."""

from functools import cache

import numpy as np
import pytest
import torch

from mtlbook.architectures.low_supervision import LowSupervision
from mtlbook.book.data.worlds.layered_tagging import layered_tagging
from mtlbook.book.experiments.supervision import Taggers, adaptation, shuffled, target_errors
from mtlbook.book.page import Page
from mtlbook.data import Holdout, MultiTaskData
from mtlbook.metrics import IGNORED


@pytest.fixture
def page(monkeypatch, tmp_path) -> Page:
    monkeypatch.setenv("MTLBOOK_OUTPUT", str(tmp_path))
    return Page("6.4", {"seeds": 2, "first_seed": 0, "device": "cpu"})


@cache
def world(seed: int) -> MultiTaskData:
    return layered_tagging(seed, rows=40, domains=2, length=5, words=6).data


def taggers(page: Page) -> Taggers:
    split = Holdout(train=20, validation=8, test=12, labels={"main": 10})
    return Taggers(page=page, data=world, split=split, vocabulary=13, steps=4)


def test_the_heads_stand_where_they_should_and_steps_are_equal(page):
    own = taggers(page)
    layers = {layer: own.at(layer) for layer in (1, 2, 3)}
    contestants = {0: own.single_task(), **layers, 4: own.best(layers)}
    for layer, found in contestants.items():
        assert len(found.fits) == 3
        assert {int(n) for fit in found.fits.values() for n in fit.cost.steps} == {4}
        for name, fit in found.fits.items():
            model = fit.model(0, "main")
            assert isinstance(model, LowSupervision)
            assert model.at["main"] == 3
            place = {0: None, 4: int(name[-1])}.get(layer, layer)
            assert model.at.get("low") == place
    assert list(contestants[4].fits.values()) == [
        layers[layer].fits["rate 0.02"] for layer in (1, 2, 3)
    ]
    assert torch.equal(
        torch.from_numpy(contestants[0].score("main")),
        torch.tensor([
            contestants[0].fits[str(contestants[0].choices.loc[seed, "main"])].score("main")[seed]
            for seed in (0, 1)
        ]),
    )  # fmt: skip


def test_shuffled_tags_are_the_same_tags_elsewhere():
    before, after = world(0), shuffled(world, "low")(0)
    assert torch.equal(before.targets["main"], after.targets["main"])
    first, second = before.targets["low"], after.targets["low"]
    assert torch.equal(first.flatten().sort().values, second.flatten().sort().values)
    assert (first == second).double().mean() < 0.6
    assert not torch.equal(shuffled(world, "low")(1).targets["low"], second)


def test_padding_stays_padding_when_tags_are_shuffled():
    data = world(0)
    tags = data.targets["low"].clone()
    tags[::2, 3:] = IGNORED
    marks = {"low": torch.arange(40) < 30, "main": data.labelled["main"]}
    own = MultiTaskData(data.tasks, data.inputs, data.targets | {"low": tags}, marks)
    after = shuffled(lambda seed: own, "low")(0).targets["low"]
    assert torch.equal(after == IGNORED, own.targets["low"] == IGNORED)
    assert not after[30:].any()


@pytest.mark.parametrize("target_tags", [True, False])
def test_the_target_domain_has_no_main_tags(target_tags):
    own = adaptation(world(0), 30, target_tags=target_tags)
    assert own.rows == 30
    target = torch.arange(30) % 2 == 1
    assert torch.equal(own.labelled["main"], ~target)
    assert torch.equal(own.labelled["low"], ~target | target_tags)
    assert torch.equal(own.inputs["tokens"], world(0).inputs["tokens"][:30])


def test_errors_in_the_target_domain_are_those_of_unseen_sentences(page):
    own = taggers(page)
    trained = own.at(1)
    found = target_errors(trained, world, 31)
    for place, seed in enumerate(page.seeds):
        fit = trained.fits[str(trained.choices.loc[seed, "main"])]
        model = fit.model(seed, "main")
        wrong = []
        for row in (31, 33, 35, 37, 39):
            inputs = {name: values[[row]] for name, values in world(seed).inputs.items()}
            tags = model(inputs)["main"].argmax(1)[0]
            wrong += (tags != world(seed).targets["main"][row]).tolist()
        assert found[place] == pytest.approx(np.mean(wrong))
