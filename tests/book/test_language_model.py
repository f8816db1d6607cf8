"""The contestants of section 7.8, at a tiny size."""

from collections import Counter
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mtlbook.auxiliary.language_model import DIRECTIONS
from mtlbook.auxiliary.linear_trunk import identity_gap
from mtlbook.book.data.worlds.hidden_markov_text import hidden_markov_text
from mtlbook.book.experiments.language_model import (
    LanguageModels,
    of_gamma,
    permuted,
    tagger,
    two_streams,
)
from mtlbook.book.experiments.training import search
from mtlbook.book.page import Page
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.metrics import IGNORED
from mtlbook.tasks import Task
from mtlbook.training.context import Batch, StepContext

SEEDS = (7000, 7001)
Calls = list[dict]


@pytest.fixture
def calls() -> Calls:
    return []


@pytest.fixture
def models(calls) -> LanguageModels:
    page = Page("7.8", {"seeds": len(SEEDS), "first_seed": SEEDS[0], "device": "cpu"})

    def kept(build, data, trials, **settings):
        calls.append({"trials": list(trials), "data": data} | settings)
        return search(page, build, data, trials, **settings)

    def text(seed):
        return hidden_markov_text(seed, rows=60, words=12, tags=3, length=5).data

    return LanguageModels(
        search=kept,
        build=partial(tagger, symbols=13, width=4),
        data=cache(text),
        split=Holdout(train=40, validation=8, test=12),
        labels=10,
        most=6,
        steps=6,
        batch=4,
        predictions=True,
    )


def test_at_gamma_0_the_predictions_are_those_of_the_tagger_alone_to_the_bit(models):
    assert models.zero_gap() == 0.0


def test_everyone_has_equally_many_trials_steps_and_the_same_test_sentences(models, calls):
    arms = [models.alone(), models.beside(), models.with_text(), models.pretrained()]
    assert [len(own.fits) for own in arms] == [4] * 4
    assert [call["steps"] for call in calls[:12]] == [6] * 12
    pretraining, tuning = calls[12::2], calls[13::2]
    assert [a["steps"] + b["steps"] for a, b in zip(pretraining, tuning, strict=True)] == [6] * 4
    rows = [next(iter(own.fits.values())).test for own in arms]
    assert all(np.array_equal(rows[0], own) for own in rows)
    assert all(call["stopping"] in ("tag", None) for call in calls)


def test_the_language_model_reads_the_tagged_sentences_or_all_training_sentences(models, calls):
    models.beside()
    models.with_text()
    few, many = calls[0], calls[4]
    for call, sentences in ((few, 10), (many, 40)):
        data = call["data"](SEEDS[0])
        split = call["split"].draw(data, SEEDS[0])
        for way in DIRECTIONS:
            assert int(split.labelled[way][split.train].sum()) == sentences
        assert int(split.labelled["tag"][split.train].sum()) == 10
    first, second = (call["split"].draw(call["data"](SEEDS[0]), SEEDS[0]) for call in (few, many))
    tagged = second.train[second.labelled["tag"][second.train]]
    assert sorted(tagged.tolist()) == sorted(first.train.tolist())


@pytest.mark.parametrize("text", [False, True])
def test_the_vocabulary_is_made_from_the_sentences_that_are_read(models, text):
    data = models.corpus(text=text)(SEEDS[0])
    few = () if text else DIRECTIONS
    split = replace(models.split, labels=dict.fromkeys(("tag", *few), 10)).draw(data, SEEDS[0])
    words = data.inputs["tokens"][split.train].flatten().tolist()
    kept = {
        word for word, _ in sorted(Counter(words).items(), key=lambda own: (-own[1], own[0]))[:6]
    }
    targets, tokens = data.targets["next_word"], data.inputs["tokens"][..., 0]
    known = targets[:, :-1] != data.tasks[1].outputs - 1
    assert set(tokens[:, 1:][known].tolist()) == kept


def test_shuffled_neighbours_keep_their_frequencies_and_the_tags(models):
    own, off = models.corpus()(SEEDS[0]), models.corpus(shuffled=True)(SEEDS[0])
    assert torch.equal(own.targets["tag"], off.targets["tag"])
    for way in DIRECTIONS:
        before, after = own.targets[way], off.targets[way]
        assert torch.equal(before == IGNORED, after == IGNORED)
        assert not torch.equal(before, after)
        assert torch.equal(before.flatten().sort().values, after.flatten().sort().values)
    again = permuted(own.targets["next_word"], SEEDS[0], "next_word")
    assert torch.equal(again, off.targets["next_word"])


def test_each_stream_trains_its_own_losses(models):
    data = models.corpus(text=True)(SEEDS[0])
    torch.manual_seed(0)
    model = models.build(data, 0, dropout=0.0).double()
    tagged, text = data.subset(torch.arange(4)), data.subset(torch.arange(4, 10))
    batches = {
        name: Batch(own.inputs, own.targets, {})
        for name, own in (("tagged", tagged), ("text", text))
    }
    context = StepContext(step=0, steps=1, tasks=("tag", *DIRECTIONS), learning_rate=0.1)
    found = two_streams("tag").compute(model, batches, context)
    expected = {"tag": (tagged, "tag")} | {way: (text, way) for way in DIRECTIONS}
    for name, (own, task) in expected.items():
        loss = F.cross_entropy(model(own.inputs)[task], own.targets[task], ignore_index=IGNORED)
        torch.testing.assert_close(found[name], loss, atol=1e-12, rtol=0)


def test_the_tagger_goes_on_from_the_language_model(models, calls):
    models.pretrained()
    before, after = calls[0], calls[1]
    assert before["tasks"] == DIRECTIONS
    assert after["tasks"] == ["tag"]
    data = models.corpus(text=True)(SEEDS[0])
    fresh = models.build(data, 0, dropout=0.0).double()
    untouched = fresh.heads["tag"].linear.weight.clone()
    start = fresh.trunk.state_dict()["0.vectors.weight"].clone()
    after["start"](fresh, SEEDS[0])
    assert torch.equal(fresh.heads["tag"].linear.weight, untouched)
    assert not torch.equal(fresh.trunk.state_dict()["0.vectors.weight"], start)


def test_the_choice_of_one_gamma_is_among_its_own_trials(models):
    beside = models.beside()
    small = of_gamma(beside, 0.1)
    assert list(small.fits) == ["γ = 0.1, dropout 0.2", "γ = 0.1, dropout 0.4"]
    for name, fit in small.fits.items():
        assert fit is beside.fits[name]


def test_behind_a_linear_trunk_the_next_word_says_nothing_about_the_tag():
    text = hidden_markov_text(7000, rows=200, words=12, tags=3).data
    words = text.inputs["tokens"][..., 0] - 1
    linear = MultiTaskData.multi_label(
        [Task.classification("tag", 3), Task.classification("next_word", 12)],
        F.one_hot(words[:, 0], 12).double(),
        {"tag": text.targets["tag"][:, 0], "next_word": words[:, 1]},
    )
    assert identity_gap(linear, "tag") < 1e-9
    assert identity_gap(linear, "tag", width=1) > 0.1


@pytest.mark.parametrize("recurrent", [False, True])
def test_all_seeds_at_once_are_the_seeds_one_by_one(models, recurrent):
    build = partial(tagger, symbols=13, width=3, recurrent=recurrent)
    own = replace(models, build=build, steps=4)
    together = own.beside().fits["γ = 1, dropout 0.2"]
    page = Page("7.8", {"seeds": 2, "first_seed": SEEDS[0], "device": "cpu"})
    alone = replace(own, search=partial(search, page, vectorise=False), dropouts=(0.2,)).beside()
    one = alone.fits["γ = 1, dropout 0.2"].predictions["tag"]
    assert np.abs(together.predictions["tag"] - one).max() < 1e-9
