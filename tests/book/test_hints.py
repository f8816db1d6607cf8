"""The contestants of section 7.3: who sees which rows, and that λ = 0 leaves no trace."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mtlbook.book.data.worlds.two_domains import POLARITY, words_of
from mtlbook.book.experiments.auxiliary_tasks import equal_trials
from mtlbook.book.experiments.hints import (
    CHECKED,
    HINTS,
    chosen_in_target,
    constructed,
    polarity_of_words,
    self_training,
    world,
)
from mtlbook.book.page import Page
from mtlbook.training.context import Batch, StepContext

SIZES: dict[str, Any] = {"labels": 120, "unlabelled": 150, "validation": 80, "test": 90}


@pytest.fixture(scope="module")
def texts():
    return constructed(0, **SIZES)


@pytest.fixture(scope="module")
def contest():
    page = Page("7.3", {"seeds": 2, "first_seed": 7000, "device": "cpu", "dataset": "constructed"})
    return world(page, **SIZES)


def of_own_words(part, domain):
    return bool(part.words[:, words_of(domain)].any())


def test_labels_are_of_the_source_and_all_else_of_the_target(texts):
    for part, own, other in (
        (texts.labelled, "source", "target"),
        (texts.validation, "source", "target"),
        (texts.unlabelled, "target", "source"),
        (texts.test, "target", "source"),
    ):
        assert of_own_words(part, own)
        assert not of_own_words(part, other)


def test_labels_of_the_target_change_the_labelled_texts_alone(texts):
    other = constructed(0, labels_of="target", **SIZES)
    assert of_own_words(other.labelled, "target")
    assert torch.equal(other.test.words, texts.test.words)
    assert torch.equal(other.unlabelled.words, texts.unlabelled.words)
    rows = {tuple(row) for row in other.labelled.words.tolist()}
    assert not rows & {tuple(row) for row in texts.test.words.tolist()}


@pytest.mark.parametrize(("target", "rows"), [(True, 120 + 150), (False, 120)])
@pytest.mark.parametrize("masked", [True, False])
def test_rows_carry_the_label_or_the_hints(texts, target, rows, masked):
    data = texts.with_hints(masked=masked, target=target)
    label, hints = data.labelled[POLARITY], data.labelled[HINTS]
    assert not (label & hints).any()
    assert (label | hints).all()
    split = texts.split(hints=1 + target).draw(data, 0)
    assert int(hints[split.train].sum()) == rows
    assert int(label[split.train].sum()) == 120
    assert int(label[split.test].sum()) == 90
    assert int(hints[split.test].sum()) == CHECKED
    hinted = data.inputs[split.train][hints[split.train]]
    own = torch.cat([texts.labelled.words, texts.unlabelled.words])[:rows]
    changed = (hinted != own).any(0)
    assert bool(changed.any()) == masked
    assert not hinted[:, changed].any()


def test_the_label_of_no_target_text_is_in_the_training_rows(texts):
    data = texts.with_unlabelled()
    split = texts.split(unlabelled=1).draw(data, 0)
    assert len(split.train) == 120
    assert len(split.unlabelled) == 150
    assert torch.equal(data.inputs[split.unlabelled], texts.unlabelled.words)
    assert not data.targets[POLARITY][split.unlabelled].any()


def test_pivots_as_inputs_are_two_more_columns(texts):
    data = texts.with_pivots_as_inputs()
    assert data.inputs.shape[1] == texts.labelled.words.shape[1] + 2
    assert torch.equal(data.inputs[:120, -2:], texts.labelled.hints)


def test_self_training_counts_guesses_that_are_sure():
    """By hand: the second text alone is guessed with more than 0.9."""

    class Fixed(nn.Module):
        def forward(self, inputs):
            return {POLARITY: inputs}

    logits = torch.tensor([[0.5], [1.0], [-3.0]], dtype=torch.float64)
    known = Batch(logits[:1], {POLARITY: torch.ones(1, 1, dtype=torch.float64)}, {})
    free = Batch(logits[1:], {POLARITY: torch.zeros(2, 1, dtype=torch.float64)}, {})
    context = StepContext(0, 1, (POLARITY,), 0.1)
    found = self_training().compute(Fixed(), {"labelled": known, "text": free}, context)
    assert float(found[POLARITY]) == pytest.approx(np.log1p(np.exp(-0.5)))
    assert float(found["pseudo"]) == pytest.approx(np.log1p(np.exp(-3)) / 2)


def test_a_weight_of_zero_is_single_task_training_to_the_bit(contest):
    assert contest.zero_weight_gap() == 0.0


def test_all_contestants_have_equally_many_trials_and_scores(contest):
    fits = [
        contest.single_task(),
        contest.hints(),
        contest.hints(masked=False),
        contest.hints(target=False),
        contest.hints(shuffle=True),
        contest.pivots_as_inputs(),
        contest.self_training(),
    ]
    assert equal_trials(*fits) == 6
    for own in fits:
        assert own.score(POLARITY).shape == (2,)
        errors = chosen_in_target(own, contest.texts, labels=40)
        assert ((50 * errors - (50 * errors).round()) < 1e-9).all()
    table = polarity_of_words(fits[0], contest.texts)
    assert table.columns.tolist() == ["pivots", "source", "target"]
    assert (table[["pivots", "source"]].to_numpy() > 0).all()
