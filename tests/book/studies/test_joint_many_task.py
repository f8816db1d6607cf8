"""The study of SICK and UD English: its data, its networks and all of it on made-up sentences."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from mtlbook.book.studies import joint_many_task as study
from mtlbook.data import Holdout, conllu, sick
from mtlbook.data.sentences import Sentence
from mtlbook.metrics import IGNORED
from mtlbook.randomness import generator
from mtlbook.training.selection import Selected

SMALL = Holdout(train=40, validation=10, test=20)
SEEDS = [0, 1]
WORDS = ("a", "dog", "runs", "man", "sings", "no", "two", "fast")


def sentences(count: int) -> list[Sentence]:
    source = generator(0, "sentences")
    made = []
    for number in range(count):
        words = tuple(WORDS[int(n)] for n in torch.randint(8, (4 + number % 3,), generator=source))
        tags = {name: tuple(word.upper()[:1] for word in words) for name in ("upos", "deprel")}
        made.append(Sentence(words, tags))
    return made


def pairs(count: int) -> list[sick.Pair]:
    every = sentences(count + 1)
    return [
        sick.Pair(own.words, other.words, 1 + number % 41 / 10, sick.RELATIONS[number % 3])
        for number, (own, other) in enumerate(pairwise(every))
    ]


def data(count: int = 70):
    return study.many_tasks_data(sentences(count), pairs(count))


def test_each_data_set_has_its_own_two_tasks():
    made = data(12)
    assert [task.name for task in made.tasks] == ["upos", "deprel", "relatedness", "entailment"]
    for task in made.tasks:
        paired = task.name in ("relatedness", "entailment")
        assert made.labelled[task.name].tolist() == [not paired] * 12 + [paired] * 12
    assert made.inputs["tokens"].shape == (24, study.LENGTH, 3)


def test_a_pair_stands_behind_one_another_with_a_gap():
    pair = sick.Pair(("a", "dog"), ("no", "man", "sings"), 3.5, "NEUTRAL")
    made = study.many_tasks_data(sentences(2), [pair])
    mask = made.inputs["mask"][2]
    places = [0, 1, study.LONGEST + 1, study.LONGEST + 2, study.LONGEST + 3]
    assert mask.nonzero()[:, 0].tolist() == places
    assert made.targets["relatedness"][2].tolist() == [0.0, 0.0, 0.5, 0.5, 0.0]
    assert made.targets["entailment"][2] == 0
    known = made.targets["upos"][0] != IGNORED
    assert torch.equal(known, made.inputs["mask"][0])


@pytest.mark.usefixtures("double")
def test_the_first_sentence_makes_no_difference_to_the_states_of_the_second():
    model, inputs = study.joint_network(data(3), 0, labels=False), data(3).inputs
    longest = torch.ones(1, study.LENGTH, dtype=torch.bool)
    longest[:, study.LONGEST] = False  # two sentences of the greatest length
    tokens = 1 + torch.arange(3 * study.LENGTH).view(1, -1, 3) % 50
    other = tokens.clone()
    other[:, : study.LONGEST] += 1
    states = []
    for own in (tokens, other):
        x = model.embedding({"tokens": own * longest.unsqueeze(-1), "mask": longest})
        first = model.levels[0](x)
        parts = torch.cat([first["states"], x["states"]], -1)
        states.append(model.levels[1]({**first, "states": parts})["states"])
    assert inputs["tokens"].shape[1] == study.LENGTH
    second = slice(study.LONGEST + 1, None)
    assert torch.equal(states[0][:, second], states[1][:, second])
    assert not torch.equal(states[0], states[1])


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("ordered", [True, False])
def test_only_an_ordered_head_knows_which_sentence_comes_first(ordered):
    head = study.PairHead(5, 3, ordered=ordered)
    torch.nn.init.normal_(head.linear.weight)
    mask = torch.ones(2, study.LENGTH, dtype=torch.bool)
    mask[:, study.LONGEST - 2 : study.LONGEST + 1] = False
    states = torch.rand(2, study.LENGTH, 5) * mask.unsqueeze(-1)
    swapped = torch.cat([states[:, study.LONGEST + 1 :], states[:, study.LONGEST :][:, :1],
                         states[:, : study.LONGEST]], 1)  # fmt: skip
    mask_swapped = torch.cat([mask[:, study.LONGEST + 1 :], mask[:, study.LONGEST :][:, :1],
                              mask[:, : study.LONGEST]], 1)  # fmt: skip
    there = head({"states": states, "mask": mask})
    back = head({"states": swapped, "mask": mask_swapped})
    assert torch.allclose(there, back) == (not ordered)


def test_relatedness_is_a_divergence_and_its_error_that_of_the_means():
    task = study.relatedness()
    gold = sick.distribution([2.0, 3.5]).float()
    sure = (gold + 1e-12).log()
    torch.testing.assert_close(task.loss(sure, gold), torch.zeros(2), rtol=0, atol=1e-5)
    assert task.score(sure, gold) == pytest.approx(0, abs=1e-8)
    flat = torch.zeros(2, 5)
    entropy = torch.tensor([0.0, np.log(2)])
    torch.testing.assert_close(task.loss(flat, gold), np.log(5) - entropy.float())
    assert task.score(flat, gold) == pytest.approx((1.0 + 0.25) / 2)


def test_the_whole_study_at_a_tiny_size(monkeypatch):
    monkeypatch.setattr(study, "SPLIT", SMALL)
    monkeypatch.setattr(conllu, "load", lambda name: sentences(80))
    monkeypatch.setattr(sick, "load", lambda: pairs(80))
    results = study.run(SEEDS, "cpu", rounds=1)
    assert results.columns.tolist() == ["seed", "method", "task", "metric", "value"]
    methods = {"joint", "single-task", "single-task, same passes", "joint, one rate",
               "no label embeddings", "shuffled", "successive", "plain"}  # fmt: skip
    assert set(results["method"]) == methods
    assert len(results) == len(SEEDS) * len(methods) * 4 * 2
    assert np.isfinite(results["value"]).all()
    rates = results.set_index(["metric", "task"])["value"].loc[[("score", "upos")]]
    assert 0 <= rates.min() <= rates.max() <= 1


def test_contestants_take_equal_steps_and_trials():
    chosen = study.contestants(data(), SMALL, SEEDS, "cpu", rounds=1)
    of_round = 4 * (40 // study.BATCH)
    for name, own in chosen.items():
        fits = list(own.fits.values()) if isinstance(own, Selected) else [own]
        assert {int(n) for fit in fits for n in fit.cost.steps} == {of_round}
        assert len(fits) == (2 if name.startswith("single") or name == "joint" else 1)
