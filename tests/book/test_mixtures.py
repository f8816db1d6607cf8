"""Section 8.1's contestants: equal parameters with the gates counted, and what their gates do."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from mtlbook.architectures.mixture_of_experts import MixtureOfExperts
from mtlbook.architectures.progressive_layered_extraction import ProgressiveLayeredExtraction
from mtlbook.book.data.worlds.mixed_relation import cosine_related
from mtlbook.book.experiments import adam, scores, trained_network, tuned
from mtlbook.book.experiments.cost import parameters
from mtlbook.book.experiments.mixtures import (
    NETWORKS,
    Contest,
    mean_gates,
    moved_weight,
    relative,
    widest,
)
from mtlbook.book.page import Page
from mtlbook.data import Holdout
from mtlbook.training.sampling import Mixed
from tests.equal import exactly

SMALL = {"slow": {"optimiser": adam(0.001)}, "fast": {"optimiser": adam(0.03)}}


def data(seed):
    return cosine_related(seed, rows=60, inputs=8).data


@pytest.fixture
def contest():
    return Contest(data(0))


def test_the_budget_counts_the_gates(contest):
    experts, gates, towers = 4 * (8 * 8 + 8), 2 * 4 * 8, 2 * (8 * 4 + 4 + 4 + 1)
    assert contest.budget == experts + gates + towers


def test_everyone_is_as_wide_as_the_budget_allows(contest):
    for name, network in contest.networks().items():
        if name == "single-task":
            continue
        assert parameters(network) <= contest.budget, name
        width = contest.build(name).keywords["width"]
        wider = partial(contest.build(name), width=width + 1)
        assert parameters(wider(contest.example, 0)) > contest.budget, name
    assert parameters(contest.networks(["MMoE"])["MMoE"]) == contest.budget


def test_single_task_networks_are_a_whole_shared_bottom_for_each_task(contest):
    single, bottom = contest.networks(["single-task", "shared bottom"]).values()
    own = [p for name, p in single.named_parameters() if "first" in name.split(".")]
    one_tower = sum(p.numel() for name, p in bottom.named_parameters() if "first" in name)
    trunk = sum(p.numel() for name, p in bottom.named_parameters() if name.startswith("trunk"))
    assert sum(p.numel() for p in own) == trunk + one_tower
    assert parameters(single) == 2 * (trunk + one_tower)


def test_networks_are_what_their_names_say(contest):
    networks = contest.networks()
    assert tuple(networks) == NETWORKS
    one, many, biased = (networks[name] for name in ("OMoE", "MMoE", "MMoE with bias"))
    assert isinstance(one, MixtureOfExperts)
    assert isinstance(many, MixtureOfExperts)
    assert isinstance(biased, MixtureOfExperts)
    assert (len(one.gate_weights), len(many.gate_weights)) == (1, 2)
    assert biased.gate.bias is not None
    assert many.gate.bias is None
    for name, levels in (("CGC", 1), ("PLE", 2)):
        extraction = networks[name]
        assert isinstance(extraction, ProgressiveLayeredExtraction)
        assert len(extraction.task_gates) == levels
        assert len(extraction.shared) == 2


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
def test_every_hidden_layer_has_the_activation(activation):
    other = nn.ReLU if activation is nn.Tanh else nn.Tanh
    for network in Contest(data(0), activation=activation).networks().values():
        kinds = {type(layer) for layer in network.modules()}
        assert activation in kinds
        assert other not in kinds


def test_the_shared_bottom_is_chosen_among_the_best_split_s_trials(contest):
    page = Page("8.1", {"seeds": 3, "first_seed": 7000, "device": "cpu"})
    settings = {
        "split": Holdout(train=30, validation=15, test=15),
        "steps": 4,
        "sampler": Mixed(10),
        "stopping": "relative",
    }

    def method(build, trials, **changed):
        return tuned(page, build, data, trials, **settings | changed)

    found = contest.trained(method, SMALL, ["single-task", "shared bottom", "MMoE"])
    assert list(found) == ["single-task", "best split", "shared bottom", "MMoE"]
    assert len(found["best split"].fits) == 4
    assert len(found["shared bottom"].fits) == len(found["MMoE"].fits) == 2
    assert set(found["shared bottom"].fits) < set(found["best split"].fits)
    trained = trained_network(found["shared bottom"], 7000)
    assert trained.get_submodule("trunk.0.0") is not None
    assert len(list(trained.get_submodule("trunk"))) == 1  # pyright: ignore[reportArgumentType]
    assert scores(found["single-task"], "loss").shape == (3, 2)


def test_widest_is_the_last_that_fits():
    assert widest(lambda width: nn.Linear(width, 2, bias=False), budget=9) == 4


def test_relative_losses_weigh_the_tasks_alike():
    losses = np.array([[1.0, 100.0], [3.0, 300.0]])
    np.testing.assert_allclose(relative(losses, 2 * losses), [0.25, 0.75])


def test_mean_gates_leave_out_what_is_in_no_bin():
    gates = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.0, 1.0]])
    found = mean_gates(gates, np.array([-1, 0, 1, 1]), count=2)
    exactly(torch.from_numpy(found), torch.tensor([[0.0, 1.0], [0.25, 0.75]]))


def test_moved_weight_is_nothing_in_the_first_bin_and_all_at_a_switch():
    means = np.array([[0.5, 0.5, 0.0], [0.5, 0.25, 0.25], [0.0, 0.0, 1.0]])
    np.testing.assert_allclose(moved_weight(means), [0.0, 0.25, 1.0])
