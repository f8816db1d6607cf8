"""Hints from pivots: their choice by hand, masking, the linear limit, and what is refused."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mtlbook.auxiliary.auxiliary_task import check_auxiliaries
from mtlbook.auxiliary.hints import (
    Pivots,
    check_vocabulary,
    hint_labels,
    hint_rows,
    log_likelihood_ratios,
    masked_text,
    select_pivots,
    without_pivots,
)
from mtlbook.auxiliary.linear_trunk import identity_gap
from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.tasks import Task
from tests.equal import exactly

PIVOTS = Pivots(positive=(0, 2), negative=(5,))


def bags(rows: int = 60, words: int = 8, share: float = 0.3) -> torch.Tensor:
    drawn = torch.rand(rows, words, generator=generator(0, "bags"), dtype=torch.float64)
    return (drawn < share).double()


def by_hand(words, labels, word, label):
    """r(w, y) of one word, from counts of texts."""

    def share(y):
        own = [bool(row[word] > 0) for row, of in zip(words, labels, strict=True) if of == y]
        return (sum(own) + 1) / (len(own) + 2)

    return share(label) * math.log(share(label) / share(1 - label))


# The choice of pivots -----------------------------------------------------------------------------


def test_the_ratios_are_those_counted_by_hand():
    words = bags()
    labels = (torch.arange(60) % 3 == 0).long()
    found = log_likelihood_ratios(words, labels)
    expected = [[by_hand(words, labels.tolist(), w, y) for w in range(8)] for y in (0, 1)]
    exactly(found, torch.tensor(expected, dtype=torch.float64))


def test_counts_and_columns_of_labels_give_the_same_ratios():
    words, labels = bags(), (torch.arange(60) % 2).double()
    exactly(log_likelihood_ratios(3 * words, labels[:, None]), log_likelihood_ratios(words, labels))


def test_a_word_that_only_one_class_has_is_chosen_and_the_classes_are_symmetric():
    words, labels = bags(), torch.arange(60) % 2
    words[:, 3] = labels.double()
    words[:, 6] = 1 - labels.double()
    found = select_pivots(words, labels, 1)
    assert (found.positive, found.negative) == ((3,), (6,))
    turned = select_pivots(words, 1 - labels, 1)
    assert (turned.positive, turned.negative) == ((6,), (3,))


def test_a_word_that_the_other_domain_lacks_is_no_pivot():
    words, labels = bags(), torch.arange(60) % 2
    words[:, 3] = labels.double()
    elsewhere = bags(share=0.5)
    assert 3 in select_pivots(words, labels, 2, elsewhere=elsewhere).positive
    elsewhere[:, 3] = 0
    assert 3 not in select_pivots(words, labels, 2, elsewhere=elsewhere).positive


def test_pivots_have_a_ratio_above_zero_however_many_are_asked_for():
    words, labels = bags(), torch.arange(60) % 2
    ratios = log_likelihood_ratios(words, labels)
    found = select_pivots(words, labels, 100)
    assert set(found.positive) == set(torch.nonzero(ratios[1] > 0)[:, 0].tolist())
    assert set(found.negative) == set(torch.nonzero(ratios[0] > 0)[:, 0].tolist())


@given(st.permutations(range(8)))
def test_the_choice_does_not_hang_on_the_order_of_the_words(order):
    words, labels = bags(200), (torch.arange(200) % 2)
    plain, moved = (select_pivots(own, labels, 2) for own in (words, words[:, order]))
    assert {order[column] for column in moved.positive} == set(plain.positive)


# Hints and masks ----------------------------------------------------------------------------------


def test_the_hints_of_a_text_say_whether_it_contains_a_pivot():
    words = bags()
    hints = hint_labels(words, PIVOTS)
    for row, (positive, negative) in zip(words.tolist(), hints.tolist(), strict=True):
        assert positive == float(bool(row[0] or row[2]))
        assert negative == float(bool(row[5]))


def test_a_masked_text_knows_nothing_of_its_pivots_and_all_of_the_rest():
    words = bags()
    before = words.clone()
    masked = without_pivots(words, PIVOTS)
    assert not masked[:, [0, 2, 5]].any()
    assert torch.equal(masked[:, [1, 3, 4, 6, 7]], words[:, [1, 3, 4, 6, 7]])
    assert torch.equal(words, before)
    # Texts that differ in pivots alone are one text.
    other = words.clone()
    other[:, [0, 2, 5]] = 1 - other[:, [0, 2, 5]]
    assert torch.equal(without_pivots(other, PIVOTS), masked)


def test_no_gradient_of_a_masked_hint_reaches_a_pivots_weights():
    trunk, head = nn.Linear(8, 4).double(), nn.Linear(4, 2).double()
    for masked, silent in ((True, True), (False, False)):
        inputs, targets = hint_rows(bags(), PIVOTS, masked=masked)
        loss = nn.functional.binary_cross_entropy_with_logits(
            head(torch.tanh(trunk(inputs))), targets
        )
        (gradient,) = torch.autograd.grad(loss, [trunk.weight])
        assert (gradient[:, list(PIVOTS.columns)] == 0).all() == silent
        assert (gradient[:, [1, 3]] != 0).all()


def test_the_rows_work_in_a_loop_of_ones_own_compiled_and_in_half_precision():
    torch.manual_seed(0)
    words, labels = bags().float(), (torch.arange(60) % 2).float()[:, None]
    inputs, hints = hint_rows(words, PIVOTS)
    trunk = nn.Sequential(nn.Linear(8, 4), nn.Tanh())
    heads = nn.ModuleDict({"label": nn.Linear(4, 1), "hints": nn.Linear(4, 2)})
    loss = nn.functional.binary_cross_entropy_with_logits
    optimiser = torch.optim.Adam([*trunk.parameters(), *heads.parameters()], lr=0.05)
    first = last = 0.0
    for _ in range(60):
        with torch.autocast("cpu", torch.bfloat16):
            own = heads["label"](trunk(words))
            guess = heads["hints"](trunk(inputs))
        total = loss(own.float(), labels) + 0.5 * loss(guess.float(), hints)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        last = float(total.detach())
        first = first or last
    assert last < first


def test_masking_is_the_same_under_vmap():
    words = bags()
    each = torch.vmap(lambda own: without_pivots(own[None], PIVOTS)[0])(words)
    assert torch.equal(each, without_pivots(words, PIVOTS))


@pytest.mark.parametrize(
    ("text", "pivots", "masked"),
    [
        ("joyful joy", ["joy"], "_ful _"),
        ("enjoyable", ["joy", "enjoy"], "_able"),
        ("joyful", ["joy", "joyful"], "_"),
        ("a+b.c", ["+", "."], "a_b_c"),
        ("재미있다", ["재미"], "_있다"),
        ("nothing", ["joy"], "nothing"),
    ],
)
def test_pivots_are_masked_in_text(text, pivots, masked):
    assert masked_text(text, pivots, "_") == masked


# The limit of linear models -----------------------------------------------------------------------


def labelled_with_hints(inputs, hints, labels):
    tasks = [Task.binary("label"), Task.regression("hints", outputs=hints.shape[1])]
    return MultiTaskData.multi_label(tasks, inputs, {"label": labels, "hints": hints})


def test_an_unmasked_hint_is_idle_behind_a_linear_trunk_and_its_count_is_an_input_copied():
    """The number of pivots is a linear function of the words: nothing is left to learn."""
    words = bags(120)
    labels = (words[:, 0] + words[:, 1] + words[:, 6] > 1).double()[:, None]
    counts = torch.stack([words[:, [0, 2]].sum(1), words[:, 5]], dim=1)
    residual = counts - words @ torch.linalg.lstsq(words, counts).solution
    assert residual.abs().max() < 1e-12
    for hints in (counts, hint_labels(words, PIVOTS)):
        data = labelled_with_hints(words, hints, labels)
        assert identity_gap(data, "label") < 1e-9
        assert identity_gap(data, "label", width=1) > 1e-3


def test_a_hint_of_one_pivot_that_is_not_masked_is_an_input_and_is_refused():
    words = bags(120)
    data = labelled_with_hints(words, words[:, [5]], words[:, [1]])
    with pytest.raises(UsageError, match="'hints' is among the inputs: its target equals input '5"):
        check_auxiliaries(data, "label")
    masked = labelled_with_hints(
        without_pivots(words, PIVOTS), words[:, [5]], words[:, [1]] * 0 + bags(120, 1)
    )
    check_auxiliaries(masked, "label")


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["positive", "negative"])
def test_a_side_without_pivots_is_refused(side):
    sides = {"positive": (0,), "negative": (1,)} | {side: ()}
    with pytest.raises(UsageError, match=f"no {side} pivot, and its hint would be constant"):
        Pivots(**sides)


def test_words_that_are_too_rare_leave_no_pivot():
    with pytest.raises(UsageError, match="lower `least`"):
        select_pivots(bags(), torch.arange(60) % 2, 2, least=0.99)


def test_a_word_on_both_sides_is_refused():
    with pytest.raises(UsageError, match=r"\[1\] are pivots of both sides"):
        Pivots(positive=(0, 1), negative=(1,))


def test_no_pivots_are_asked_for():
    with pytest.raises(UsageError, match="at least 1, not 0"):
        select_pivots(bags(), torch.arange(60) % 2, 0)


@pytest.mark.parametrize("labels", [torch.ones(60), torch.arange(60) % 3, torch.arange(30) % 2])
def test_labels_that_are_not_two_classes_are_refused(labels):
    with pytest.raises(UsageError, match="by labels 0 and 1, both of them and one a text"):
        select_pivots(bags(), labels, 2)


@pytest.mark.parametrize(("value", "said"), [(0.0, "No text contains"), (1.0, "Every text")])
def test_a_constant_hint_is_refused(value, said):
    words = bags()
    words[:, 5] = value
    with pytest.raises(UsageError, match=rf"{said}.* a negative pivot: a constant hint"):
        hint_rows(words, PIVOTS)


def test_a_vocabulary_of_test_words_is_refused_and_the_words_are_named():
    training, test = bags(), bags(20)
    check_vocabulary(training, test)
    training[:, [2, 4]] = 0
    with pytest.raises(UsageError, match=r"made from test text: good, bad occur in no training"):
        check_vocabulary(training, test, ["a", "b", "good", "c", "bad", "d", "e", "f"])
    with pytest.raises(UsageError, match=r"column 0, .*column 4 and 3 more"):
        check_vocabulary(torch.zeros(2, 8), torch.ones(2, 8))


@pytest.mark.parametrize("pivots", [[], ["joy", ""]])
def test_empty_pivots_are_refused_in_text(pivots):
    with pytest.raises(UsageError, match="at least one pivot to mask"):
        masked_text("joy", pivots)
