"""The Python of the READMEs runs from top to bottom, and learns what it says."""

import re
from typing import Any

import numpy as np
import pytest
import torch

from tests.project import ROOT


def run_examples(path: str) -> list[dict[str, Any]]:
    """The names that each example of a file leaves; they are read one after another."""
    text = (ROOT / path).read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "readme"}
    left = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for number, example in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL)):
            exec(compile(example, f"{path}, example {number + 1}", "exec"), names)
            left.append(dict(names))
    return left


@pytest.fixture(scope="module")
def stages() -> list[dict[str, Any]]:
    """What the examples of the library's README leave."""
    return run_examples("mtlbook/README.md")


def test_the_loop_of_the_first_page_learns():
    (names,) = run_examples("README.md")
    assert names["losses"][0] < 0.9  # nats; three classes at random cost 1.1
    assert names["combiner"].log_variances.detach().abs().min() > 0


def test_the_loop_of_ones_own_learns(stages):
    names = stages[0]
    trained, fresh = names["model"], names["make_network"]()
    for task in names["tasks"]:
        target = names["targets"][task.name]
        after, before = (
            task.loss(network(names["inputs"])[task.name], target).mean()
            for network in (trained, fresh)
        )
        assert after < before
    assert set(trained.branches) == {"kind", "price"}
    assert names["combiner"].log_variances.detach().abs().min() > 0


def test_balancing_goes_on_and_tells_of_conflicts(stages):
    gramian = stages[1]["gramian"]
    assert gramian.shape == (2, 2)
    assert (gramian.diagonal() > 0).all()


def test_fit_learns_more_than_a_constant(stages):
    trained = stages[2]["trained"]
    accuracy = trained.score("kind")
    assert accuracy.shape == (8,)
    assert accuracy.mean() > 0.7


def test_networks_and_rules_are_exchanged_in_one_line(stages):
    for network in stages[3]["networks"]:
        shapes = {name: tuple(own.shape) for name, own in network(stages[0]["inputs"]).items()}
        assert shapes == {"kind": (256, 3), "price": (256, 1)}
    gradients = [own.grad for own in stages[4]["model"].parameters() if own.requires_grad]
    assert all(own is not None for own in gradients)


def test_an_auxiliary_task_and_its_control_are_trained_alike(stages):
    helped, control = stages[5]["helped"], stages[5]["control"]
    for own in (helped, control):
        assert own.score("kind").shape == (4,)
    assert (helped.test == control.test).all()
    assert (helped.score("price") != control.score("price")).all()


def test_what_is_plugged_in_is_used(stages):
    own, settings = stages[6]["own"], stages[6]["settings"]
    assert own.score("price", "MAE").shape == (4,)
    assert np.isfinite(own.history["loss"]).any()
    assert own.combiner(0).__class__.__name__ == "EqualLosses"
    # A third of the steps is about kinds, and every interval tells of both.
    training = own.history.query("part == 'train'")
    assert training.groupby("task").size().to_dict() == {"kind": 4 * 50, "price": 4 * 50}
    assert settings.interval == 4
