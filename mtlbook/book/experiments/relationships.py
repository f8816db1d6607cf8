"""Section 6.1's contestants: networks that differ in the prior on the tasks' own weights."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtlbook.architectures.deep_relationship_networks import (
    AXES,
    DeepRelationshipNetwork,
    RelationshipPrior,
    correlations,
    flip_flop,
)
from mtlbook.book.experiments.contestants import Bench
from mtlbook.book.experiments.networks import Stages, linear_head
from mtlbook.book.experiments.training import Trials, adam, adamw_trials, crossed
from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.sharing.hard import HardSharing
from mtlbook.sharing.soft import SquaredDistance
from mtlbook.training.results import Fit
from mtlbook.training.selection import Selected
from mtlbook.weighting.linear_scalarisation import LinearScalarisation

EVERY = 5  # steps between two updates of the covariances
SHARES = (0.1, 0.5)  # of the identity in learnt covariances
DISTANCES = (0.03, 0.3)  # squared distances, in units of the L2 penalty's strength


def related_network(
    data: MultiTaskData,
    seed: int,  # noqa: ARG001
    *,
    stages: Stages,
    width: int,
    **dials: Any,
) -> DeepRelationshipNetwork:
    """A trunk and linear heads, whose weights and biases have a prior."""
    heads = {task.name: linear_head(width, task) for task in data.tasks}
    return DeepRelationshipNetwork(stages, heads, biases=True, **dials)


def l2_trials(tasks: Sequence[str], strengths: Iterable[float]) -> Trials:
    """Trials of independent L2, the prior with I as all its covariances, at each strength."""
    return _weighted(tasks, strengths, {"regulariser": RelationshipPrior(1.0, identity=1.0)})


def prior_trials(
    tasks: Sequence[str], strengths: Sequence[float], shares: Iterable[float]
) -> Trials:
    """Trials of learnt covariances: each strength with each share of the identity."""
    found = {}
    for share in shares:
        prior = RelationshipPrior(1.0, identity=share, every=EVERY)
        settings = {"regulariser": prior, "after_step": prior.after_step}
        of_share = _weighted(tasks, strengths, settings)
        found |= {f"{trial}, {share:g} of I": own for trial, own in of_share.items()}
    return found


def distance_trials(
    tasks: Sequence[str], strengths: Sequence[float], distances: Iterable[float]
) -> Trials:
    """Trials of mean regularisation: each strength with each distance, in units of it."""
    found = {}
    for distance in distances:
        settings = {"regulariser": MeanRegularised(1.0, distance)}
        of_distance = _weighted(tasks, strengths, settings)
        found |= {f"{trial}, distance {distance:g}": own for trial, own in of_distance.items()}
    return found


def _weighted(
    tasks: Sequence[str], strengths: Iterable[float], settings: Mapping[str, Any]
) -> Trials:
    """The same prior at several strengths, as trials that train at once.

    Adam's steps do not depend on the scale of what is minimised. So the prior counts 1 and the
    losses 1 / λ, which is a combiner's business, and combiners may differ within a search.
    """
    return {
        f"λ {strength:g}": {
            **settings,
            "combiner": LinearScalarisation(dict.fromkeys(tasks, 1 / strength)),
        }
        for strength in strengths
    }


@dataclass(frozen=True, kw_only=True)
class Contest:
    """The contestants of a bench, four trials each: priors on heads, and networks without any.

    Attributes:
        bench: tasks' data, the trained start, and all settings in common; trials are made here.
        tasks: their names.
        rate: of Adam.
        strengths: four, of independent L2; the middle ones, of priors with a second dial.
        decays: four weight decays of single-task networks and hard sharing.
    """

    bench: Bench
    tasks: Sequence[str]
    rate: float
    strengths: Sequence[float]
    decays: Sequence[float] = (0.0, 1.0, 3.0, 10.0)

    def arms(self, *names: str) -> dict[str, Selected]:
        """Train some contestants, by name: those of `CONTESTANTS`."""
        return {name: CONTESTANTS[name](self) for name in names}

    def single_task(self) -> Selected:
        """A network for each task."""
        return self.bench.single_task(adamw_trials([self.rate], self.decays))

    def hard_sharing(self) -> Selected:
        """One trunk, and heads without a prior."""
        return self.bench.hard_sharing(adamw_trials([self.rate], self.decays))

    def independent_l2(self) -> Selected:
        """Heads with the prior that relates nothing."""
        return self._with_prior(l2_trials(self.tasks, self.strengths))

    def squared_distance(self) -> Selected:
        """Heads with the prior that relates all pairs alike, and positively."""
        return self._with_prior(distance_trials(self.tasks, self.strengths[1:3], DISTANCES))

    def learnt_covariance(self, related: Sequence[str] = ("tasks",)) -> Selected:
        """Heads whose covariances are learnt."""
        trials = prior_trials(self.tasks, self.strengths[1:3], SHARES)
        return self._with_prior(trials, related=related)

    def own_priors(self) -> Selected:
        """A network for each task, with covariances of its own; its λ, of all layers, is a tenth.."""
        trials = prior_trials(self.tasks, [own / 10 for own in self.strengths[1:3]], SHARES)
        dials = {"related": ("features", "outputs"), "apart": True, "branch_at": 0}
        return self._with_prior(trials, stopping="each", **dials)

    def _with_prior(self, trials: Trials, stopping: str = "relative", **dials: Any) -> Selected:
        bench = self.bench
        build = partial(related_network, stages=bench.stages, width=bench.width, **dials)
        with_adam = crossed({"adam": {"optimiser": adam(self.rate)}}, trials)
        return bench.method(build, with_adam, stopping=stopping)


SINGLE, HARD, L2 = "single-task", "hard sharing", "independent L2"
DISTANCE, LEARNT, ALL, OWN = (
    "squared distance",
    "learnt covariance",
    "all covariances",
    "own priors",
)
CONTESTANTS: dict[str, Callable[[Contest], Selected]] = {
    SINGLE: Contest.single_task,
    HARD: Contest.hard_sharing,
    OWN: Contest.own_priors,
    L2: Contest.independent_l2,
    DISTANCE: Contest.squared_distance,
    LEARNT: Contest.learnt_covariance,
    ALL: partial(Contest.learnt_covariance, related=AXES),
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
    heads = model.get_submodule("heads").children()
    weights = [
        torch.cat([head.get_parameter("weight").T, head.get_parameter("bias")[None]])
        for head in heads
    ]
    return correlations(flip_flop(torch.stack(weights, dim=-1).detach(), {}, "tasks"))


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
