"""Section 6.1's contestants: networks that differ in the prior on the tasks' own weights."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtlbook.architectures.deep_relationship_networks import (
    DeepRelationshipNetwork,
    RelationshipPrior,
    correlations,
    flip_flop,
)
from mtlbook.book.experiments.networks import Stages, linear_head
from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.sharing.hard import HardSharing
from mtlbook.sharing.soft import SquaredDistance
from mtlbook.training.results import Fit
from mtlbook.weighting.linear_scalarisation import LinearScalarisation

EVERY = 5  # steps between two updates of the covariances
IDENTITY = 0.1  # their share of I


def related_network(
    data: MultiTaskData,
    seed: int,  # noqa: ARG001
    *,
    stages: Stages,
    width: int,
    **dials: Any,
) -> DeepRelationshipNetwork:
    """A trunk and linear heads, whose weights may have a prior."""
    heads = {task.name: linear_head(width, task) for task in data.tasks}
    return DeepRelationshipNetwork(stages, heads, **dials)


def prior_trials(
    tasks: Iterable[str], strengths: Iterable[float], identity: float = IDENTITY
) -> dict[str, dict[str, Any]]:
    """Trials of the prior at each strength; with a share of 1 of the identity, independent L2.

    Adam's steps do not depend on the scale of what is minimised. So the prior counts 1 and the
    losses 1 / λ, which is a combiner's business: trials that differ in it alone train at once.
    """
    prior = RelationshipPrior(1.0, identity=identity, every=EVERY)
    updates = {} if identity == 1 else {"after_step": prior.after_step}
    return _weighted(tasks, strengths, {"regulariser": prior} | updates)


def distance_trials(
    tasks: Iterable[str], strengths: Iterable[float], shares: Iterable[float]
) -> dict[str, dict[str, Any]]:
    """Trials of the mean-regularised prior: at each strength each share of the squared distance."""
    names, given = list(tasks), list(strengths)
    return {
        f"{trial}, distance {share:g}": settings
        for share in shares
        for trial, settings in _weighted(
            names, given, {"regulariser": MeanRegularised(1.0, share)}
        ).items()
    }


def _weighted(
    tasks: Iterable[str], strengths: Iterable[float], settings: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    names = list(tasks)
    return {
        f"λ {strength:g}": {
            **settings,
            "combiner": LinearScalarisation(dict.fromkeys(names, 1 / strength)),
        }
        for strength in strengths
    }


class MeanRegularised:
    """½ a ‖𝒲‖² + b Σ_{s<t} ‖W_s − W_t‖² on the heads: the prior with one correlation for all pairs.

    Arguments:
        strength: a.
        distance: b.
    """

    def __init__(self, strength: float, distance: float) -> None:
        self.l2 = RelationshipPrior(strength, identity=1.0)
        self.distance = SquaredDistance(distance, tied=["heads"])

    def __call__(self, model: nn.Module, context: Any = None) -> Float[Tensor, ""]:
        """The penalty; the step (context) makes no difference to it."""
        return self.l2(model, context) + self.distance(model, context)


class TrainedTrunk:
    """A start from the trunk of networks that were trained before: for every contestant the same.

    Arguments:
        trained: a network of hard sharing for each seed.
    """

    def __init__(self, trained: Fit) -> None:
        self.trained = trained

    def __call__(self, model: nn.Module, seed: int) -> None:
        """Give the trunk and all branches of a model the trained stages."""
        source = self.trained.model(seed)
        assert isinstance(source, HardSharing)
        assert isinstance(model, HardSharing)
        for branch in model.branches.values():
            assert isinstance(branch, nn.Sequential)
            for own, stage in zip([*model.trunk, *branch], source.trunk, strict=True):
                own.load_state_dict(stage.state_dict())


def head_correlations(model: nn.Module) -> Float[Tensor, "tasks tasks"]:
    """The correlations of the heads' weights over features and outputs."""
    heads: Mapping[str, nn.Module] = dict(model.get_submodule("heads").named_children())
    stack = torch.stack([head.get_parameter("weight").T for head in heads.values()], dim=-1)
    return correlations(flip_flop(stack.detach(), {}, "tasks"))


def learnt_correlations(model: nn.Module) -> Float[Tensor, "tasks tasks"]:
    """The correlations in Σ_3 of the last layer that has a prior."""
    assert isinstance(model, DeepRelationshipNetwork)
    return correlations(model.get_buffer(f"relations.{len(model.relations) - 1}.tasks"))


def correlation_error(
    found: Float[Tensor, "tasks tasks"], truth: Float[Tensor, "tasks tasks"]
) -> float:
    """The mean absolute error of the correlations of all pairs of tasks.

    Example:
        >>> correlation_error(torch.eye(3), torch.ones(3, 3))
        1.0
    """
    pairs = ~torch.eye(len(truth), dtype=torch.bool)
    return float((found - truth)[pairs].abs().mean())
