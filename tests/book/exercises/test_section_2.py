import pytest
import torch
from torch import nn

from mtlbook.book import exercises
from mtlbook.book.exercises import section_2
from mtlbook.sharing.hard import HardSharing, separate_networks

RIGHT = section_2.RELATIVE_OF


def test_every_relative_is_asked_for_once():
    assert sorted(RIGHT.values()) == sorted(section_2.RELATIVES)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (RIGHT | {"photographs": "multi-output regression"}, "yes-or-no"),
        (RIGHT | {"parser": "multi-task over several data sets"}, "only the target counts"),
        (RIGHT | {"spam": "transfer"}, "inputs' distribution"),
        (RIGHT | {"robot": ...}, "no name in the table"),
        ({}, "photographs"),
        (RIGHT | {"spam": "multitask"}, "no name in the table"),
        (["transfer"], "dictionary"),
    ],
)
def test_wrong_relatives_get_their_hint(answer, hint: str):
    assert hint in (exercises.get("2.a").hint(answer) or "")


def hold_everything(model, source):
    section_2.hold_the_trunk(model, source)
    model.requires_grad_(False)


def hold_the_source_too(model, source):
    section_2.hold_the_trunk(model, source)
    source.requires_grad_(False)


def copy_without_holding(model, source):
    model["trunk"].load_state_dict(source["trunk"].state_dict())


def hold_without_copying(model, source):
    model["trunk"].requires_grad_(False)


def copy_everything(model, source):
    model.load_state_dict(source.state_dict())
    model["trunk"].requires_grad_(False)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (hold_everything, "do not hold it"),
        (hold_the_source_too, "not yours to change"),
        (copy_without_holding, "that is fine-tuning"),
        (hold_without_copying, "does not have the weights"),
        (copy_everything, "a head of its own"),
    ],
)
def test_wrong_probes_get_their_hint(answer, hint: str):
    assert hint in (exercises.get("2.b").hint(answer) or "")


def test_a_probe_that_takes_the_sources_own_trunk_is_rejected():
    def assign(model, source):
        model["trunk"] = source["trunk"]
        model["trunk"].requires_grad_(False)

    assert "not yours to change" in (exercises.get("2.b").hint(assign) or "")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda inputs, width, tasks, shared: inputs * width + width, "biases"),
        (lambda inputs, width, tasks, shared: (inputs + 1) * width + shared, "both must agree"),
        (lambda inputs, width, tasks, shared: (inputs + 2) * width + tasks, "shared trunk"),
        (
            lambda inputs, width, tasks, shared: ((inputs + 1) * width + width + 1) * tasks,
            "shared trunk",
        ),
        (
            lambda inputs, width, tasks, shared: (inputs + 1) * width + tasks * (width + 1),
            "separate networks",
        ),
    ],
)
def test_wrong_counts_get_their_hint(answer, hint: str):
    assert hint in (exercises.get("2.c").hint(answer) or "")


@pytest.mark.parametrize("shared", [True, False])
def test_the_counted_parameters_are_those_of_the_books_networks(shared: bool):
    heads = {f"task_{number}": nn.Linear(8, 1) for number in range(3)}
    build = HardSharing if shared else separate_networks
    model = build(lambda: [nn.Linear(5, 8), nn.Tanh()], heads)
    counted = sum(weight.numel() for weight in model.parameters())
    assert section_2.parameters(5, 8, 3, shared) == counted


def test_checking_leaves_the_readers_random_numbers_alone():
    state = torch.get_rng_state()
    exercises.get("2.b").hint(section_2.hold_the_trunk)
    assert torch.equal(torch.get_rng_state(), state)
