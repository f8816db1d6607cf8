"""Section 6.1's contestants."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtlbook.architectures.deep_relationship_networks import RelationshipPrior
from mtlbook.book.data.worlds.signed_clusters import signed_clusters, task_correlations
from mtlbook.book.experiments.networks import dense, hard_sharing
from mtlbook.book.experiments.relationships import (
    MeanRegularised,
    TrainedTrunk,
    correlation_error,
    distance_trials,
    head_correlations,
    l2_trials,
    learnt_correlations,
    prior_trials,
    related_network,
)
from mtlbook.data import Holdout
from mtlbook.training.fit import fit
from mtlbook.training.sampling import Balanced
from mtlbook.training.settings import Settings
from tests.equal import exactly

TASKS = ["task_1", "task_2"]
STAGES = dense(10, 4)


def data(seed: int):
    return signed_clusters(seed, rows=30, tasks=2, features=3, correlation=1.0, noise=0.1).data


build = partial(related_network, stages=STAGES, width=4)


def trained(**settings: Any) -> dict[str, Tensor]:
    own = Settings(
        split=Holdout(train=20, validation=0, test=10), steps=20, stopping=None,
        sampler=Balanced(20), learning_rate=0.01, **settings,
    )  # fmt: skip
    return fit(build, data, seeds=[0], settings=own).model(0).state_dict()


@pytest.mark.parametrize("strength", [0.2, 3.0])
def test_losses_over_the_strength_are_the_prior_times_the_strength_to_adam(strength):
    """But for Adam's ε = 1e-8 beside the gradients' sizes."""
    prior = RelationshipPrior(strength, identity=0.1, every=5)
    direct = trained(regulariser=prior, after_step=prior.after_step)
    (trial,) = prior_trials(TASKS, [strength], [0.1]).values()
    for name, values in trained(**trial).items():
        torch.testing.assert_close(values, direct[name], rtol=1e-4, atol=1e-5)


def test_trials_that_train_at_once_have_the_same_prior():
    trials = prior_trials(TASKS, [0.1, 1.0], [0.1, 0.5])
    assert list(trials) == [
        "λ 0.1, 0.1 of I", "λ 1, 0.1 of I", "λ 0.1, 0.5 of I", "λ 1, 0.5 of I",
    ]  # fmt: skip
    assert len({id(own["regulariser"]) for own in trials.values()}) == 2
    assert [own["regulariser"].identity for own in trials.values()] == [0.1, 0.1, 0.5, 0.5]
    assert trials["λ 0.1, 0.5 of I"]["combiner"].weights == dict.fromkeys(TASKS, 10.0)
    distances = distance_trials(TASKS, [2.0], [0.1, 1.0])
    assert list(distances) == ["λ 2, distance 0.1", "λ 2, distance 1"]
    assert len(l2_trials(TASKS, [1.0, 2.0, 3.0])) == 3


def test_mean_regularisation_is_l2_and_the_distance_of_every_pair():
    model = build(data(0), 0).double()
    first, second = (
        torch.cat([head.get_parameter("weight").flatten(), head.get_parameter("bias")])
        for head in model.heads.values()
    )
    expected = 0.7 / 2 * (first @ first + second @ second) + 0.3 * (first - second).square().sum()
    exactly(MeanRegularised(0.7, 0.3)(model), expected)


def test_every_contestant_starts_from_the_trained_trunk():
    settings = Settings(
        tasks=["task_1"],
        split=Holdout(train=20, validation=5, test=5),
        steps=3,
        evaluate_on=["test"],
    )
    source = fit(
        lambda own, _seed: hard_sharing(STAGES, own.tasks, 4), data, seeds=[0], settings=settings
    )
    trunk = source.model(0).get_submodule("trunk").state_dict()
    start = TrainedTrunk(source)
    for branch_at, places in ((1, ["trunk"]), (0, ["branches.task_1", "branches.task_2"])):
        model = build(data(0), 0, branch_at=branch_at).double()
        start(model, 0)
        for place in places:
            own = model.get_submodule(place).state_dict()
            assert all(torch.equal(own[name], values) for name, values in trunk.items())


def test_the_relations_of_opposed_tasks_are_found():
    model = build(data(0), 0)
    with torch.no_grad():
        for sign, head in zip((1, -1), model.heads.values(), strict=True):
            head.get_parameter("weight").copy_(sign * torch.arange(1.0, 5.0)[None])
            head.get_parameter("bias").fill_(sign)
    truth = task_correlations(2, 1.0).to(torch.float32)
    torch.testing.assert_close(head_correlations(model), truth)
    RelationshipPrior(1.0, identity=0.2).update(model)
    expected = torch.tensor([[1.0, -0.8], [-0.8, 1.0]])
    torch.testing.assert_close(learnt_correlations(model), expected)
    assert correlation_error(learnt_correlations(model), truth) == pytest.approx(0.2, abs=1e-6)


def test_other_models_have_no_relations():
    with pytest.raises(AssertionError):
        learnt_correlations(nn.Linear(2, 2))
