"""Section 6.9's league: what plays in it, where, and by which rules.

A `World` is a data set with its split; a `Contestant` is a way to share. Each is one entry of a
registry, `WORLDS` (in `league_worlds`) and `CONTESTANTS`, so that the recorded study and the page
play the same match.

**Rules.** Two hidden layers of 16 tanh units wherever a method has a network, column or expert;
equal-weight losses, of one kind and scale within a world; AdamW; the same splits, initial draws and
minibatches. Everyone has four trials, two learning rates times two values of its own dial, chosen
for each seed by the mean relative validation loss (by each task's own for separate networks).
Everyone takes the same number of steps, stages on single tasks included: cross-stitch and
factorised networks go on from single-task networks that took half of the steps, and a tree takes a
third of them in each of its shapes. With `budget="FLOPs"` a trial takes as many steps as cost, in
floating-point operations, what single-task networks cost in theirs, at most four times as many.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import product
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mtlbook.architectures.cross_stitch import CrossStitch
from mtlbook.architectures.deep_relationship_networks import (
    DeepRelationshipNetwork,
    RelationshipPrior,
)
from mtlbook.architectures.fully_adaptive_sharing import (
    Tree,
    TreeNetwork,
    affinity,
    margins,
    widen,
)
from mtlbook.architectures.mixture_of_experts import MixtureOfExperts
from mtlbook.architectures.multi_task_attention import MultiTaskAttention
from mtlbook.architectures.progressive_layered_extraction import ProgressiveLayeredExtraction
from mtlbook.architectures.sluice_networks import Sluice
from mtlbook.architectures.tensor_factorisation import TensorFactorisation
from mtlbook.book.experiments.league_worlds import World
from mtlbook.book.experiments.networks import dense, hard_sharing
from mtlbook.book.experiments.results import trained_network
from mtlbook.book.experiments.sluices import from_one_start
from mtlbook.book.experiments.training import adamw
from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.sharing.hard import HardSharing
from mtlbook.sharing.soft import SquaredDistance
from mtlbook.tasks import Task
from mtlbook.training.fit import fit_trials
from mtlbook.training.results import Fit
from mtlbook.training.sampling import Balanced, Mixed
from mtlbook.training.selection import Selected, select
from mtlbook.training.settings import Settings, Trial

Budget = Literal["steps", "FLOPs"]
Build = Callable[[MultiTaskData, int], nn.Module]
Make = Callable[[], nn.Module]

WIDTH = 16
STEPS = 120
RATES = (0.01, 0.03)
DECAYS = (0.1, 1.0)  # weight decay, of those who have no dial of their own
DECAY = 0.1  # of those who have one
LAYERS = 2
SOFT = (0.01, 0.1)  # strengths of soft sharing
PRIORS = (0.01, 0.1)  # and of relationship networks
SAME = (0.9, 0.5)  # α between a column and itself at first
ERRORS = (0.1, 0.3)  # relative, of the truncation with which factorisation starts
ALPHAS = (10.0, 30.0)  # what dissimilar tasks on one branch cost, a further branch being 1
EVALUATIONS = 10  # on validation data, during a training
MOST_STEPS = 4  # with equal FLOPs, at most so many times the common number of steps


@dataclass(frozen=True)
class Entry:
    """What a contestant has achieved in a world, and what it cost.

    Attributes:
        chosen: its last trainings, and each seed's choice among them.
        parameters: trainable ones, mean over the trials.
        inference: floating-point operations to predict one example, mean over the trials.
        training: floating-point operations of all its trials for one seed, earlier stages included.
    """

    chosen: Selected
    parameters: float
    inference: float
    training: float

    def losses(self, part: str = "test") -> Float[np.ndarray, "seeds tasks"]:
        """The loss of each task under each seed's chosen trial."""
        names = self.chosen.choices.columns
        return np.stack([self.chosen.score(name, "loss", part) for name in names], axis=1)


@dataclass(kw_only=True)
class Match:
    """A world, and what all contestants have in common in it.

    Attributes:
        world: where it is played.
        seeds: one replica of each trial each.
        device: where it is computed.
        steps: of every contestant, or with equal FLOPs of single-task networks.
        budget: what is equal.
        dtype: of all numbers.
        label: what a progress bar says.
    """

    world: World
    seeds: tuple[int, ...]
    device: str | torch.device = "cpu"
    steps: int = STEPS
    budget: Budget = "steps"
    dtype: torch.dtype = torch.float64
    label: str = "league"
    _drawn: dict[int, MultiTaskData] = field(default_factory=dict, repr=False)

    def data(self, seed: int) -> MultiTaskData:
        """A seed's data, made once."""
        if seed not in self._drawn:
            self._drawn[seed] = self.world.data(seed)
        return self._drawn[seed]

    @property
    def inputs(self) -> int:
        """The width of the inputs."""
        return self.data(self.seeds[0]).inputs.shape[1]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The world's tasks."""
        return self.data(self.seeds[0]).tasks

    def stages(self, width: int = WIDTH) -> Callable[[], Sequence[nn.Module]]:
        """Makes two hidden layers."""
        return dense(self.inputs, width, width)

    def heads(self, width: int = WIDTH) -> dict[str, nn.Module]:
        """A linear layer for each task."""
        return {task.name: nn.Linear(width, task.outputs) for task in self.tasks}

    def split_network(
        self, *, shared: int, width: int = WIDTH, same_start: bool = False
    ) -> HardSharing:
        """A trunk of some shared layers and a branch for each task."""
        return hard_sharing(
            self.stages(width), self.tasks, width, branch_at=shared, same_start=same_start
        )

    def train(
        self,
        make: Make | Sequence[Make],
        share: float = 1.0,
        *,
        decays: Sequence[float] = (DECAY,),
        build: Build | None = None,
        **settings: Any,
    ) -> dict[str, Fit]:
        """Train a network at both rates, with each of some weight decays.

        Arguments:
            make: makes the network; the networks of all seeds where they differ in size.
            share: of the steps.
            decays: weight decays to try.
            build: makes a seed's own network in the place of `make`.
            **settings: of the training.
        """
        makes = list(make) if isinstance(make, Sequence) else [make]
        steps = max(1, round(share * self.steps_of(makes)))
        common: dict[str, Any] = {
            "split": self.world.split,
            "steps": steps,
            "sampler": (Balanced if self.world.balanced else Mixed)(self.world.batch),
            "validate_every": max(1, steps // EVALUATIONS),
            "evaluate_on": ("validation", "test"),
            "device": self.device,
            "dtype": self.dtype,
            "progress_label": f"{self.label}: {self.world.name}",
        }
        optimisers = {
            f"rate {rate:g}, decay {decay:g}": adamw(rate, decay)
            for rate, decay in product(RATES, decays)
        }
        trained = partial(
            fit_trials,
            build or (lambda _data, _seed: makes[0]()),
            self.data,
            seeds=self.seeds,
        )
        if settings.get("after_step") is None:
            trials = {name: Trial(own) for name, own in optimisers.items()}
            return trained(trials=trials, settings=Settings(**common | settings))
        found: dict[str, Fit] = {}
        for name, own in optimisers.items():  # what follows a step is told one learning rate
            alone: dict[str, Any] = common | settings | {"optimiser": own}
            found |= trained(trials={name: Trial()}, settings=Settings(**alone))
        return found

    def with_equal_operations(self) -> "Match":
        """The same match, with equal floating-point operations in the place of equal steps."""
        other = replace(self, budget="FLOPs")
        if "single" in self.__dict__:  # which costs the same by either budget
            other.__dict__["single"] = self.single
        return other

    def steps_of(self, makes: Sequence[Make]) -> int:
        """The steps of networks: all the same, or for the same floating-point operations."""
        if self.budget == "steps":
            return self.steps
        ratio = self.operations([partial(self.split_network, shared=0)]) / self.operations(makes)
        return round(self.steps * min(ratio, MOST_STEPS))

    def operations(self, makes: Sequence[Make]) -> float:
        """Floating-point operations to predict all tasks for an example, mean over networks.

        They are those of a step's batch, divided by its rows: what is computed once a batch, such
        as the product of factors, counts so much the less.
        """
        rows = self.world.batch * (len(self.tasks) if self.world.balanced else 1)
        batch = self.data(self.seeds[0]).inputs[:rows]
        counter = FlopCounterMode(display=False)
        with torch.random.fork_rng(devices=[]), torch.no_grad(), counter:
            for make in makes:
                make().to(batch.dtype)(batch)
        return counter.get_total_flops() / len(makes) / len(batch)

    @cached_property
    def single(self) -> tuple[Selected, list[Fit]]:
        """Single-task networks after half of the steps, all from the same initial weights."""
        make = partial(self.split_network, shared=0, same_start=True)
        fits = self.train(make, 0.5, stopping="each")
        return select(fits, each_task=True), list(fits.values())

    def networks(self, seed: int) -> dict[str, nn.Sequential]:
        """The hidden layers of a seed's single-task networks."""
        found = {}
        for task in self.tasks:
            source = trained_network(self.single[0], seed, task.name)
            network = source.get_submodule(f"branches.{task.name}")
            assert isinstance(network, nn.Sequential)
            found[task.name] = network
        return found

    def columns(self, model: nn.Module, seed: int) -> None:
        """Give a network's columns, where it has any, and its heads single-task weights."""
        for name, network in self.networks(seed).items():
            source = trained_network(self.single[0], seed, name)
            head = source.get_submodule(f"heads.{name}")
            model.get_submodule(f"heads.{name}").load_state_dict(head.state_dict())
            if hasattr(model, "columns"):
                column = model.get_submodule(f"columns.{name}")
                column.load_state_dict(network.state_dict())

    def affinity(self, model: nn.Module, seed: int) -> Float[Tensor, "tasks tasks"]:
        """How often tasks agree on which training rows are hard; 1 where no row tells them all."""
        data = self.data(seed)
        if not self.world.same_rows:
            return torch.ones(len(self.tasks), len(self.tasks), dtype=torch.float64)
        split = self.world.split.draw(data, seed)
        every = torch.stack([own[split.train] for own in split.labelled.values()]).all(0)
        rows = split.train[every]
        with torch.no_grad():
            predicted = deepcopy(model).double()(data.inputs[rows].double())
        sides = [_sides(task, predicted[task.name], data.targets[task.name][rows])
                 for task in self.tasks]  # fmt: skip
        return affinity(torch.cat([margins(own, known) for own, known in sides], dim=1))


def _sides(
    task: Task, prediction: Tensor, target: Tensor
) -> tuple[Float[Tensor, "rows 1"], Float[Tensor, "rows 1"]]:
    """What a margin compares: a prediction with its target, or a probability with the label's."""
    if task.kind == "classification":
        right = prediction.softmax(1).gather(1, target[:, None])
        return right, torch.ones_like(right)
    own = prediction.sigmoid() if task.kind == "binary" else prediction
    return own[:, :1], target[:, :1]


def entered(
    fits: Mapping[str, Fit],
    before: Sequence[Fit] = (),
    *,
    operations: float | None = None,
    each_task: bool = False,
) -> Entry:
    """The entry of a contestant.

    Arguments:
        fits: all its trials.
        before: the trainings that they went on from.
        operations: to predict one example, where the trials' own count is not theirs.
        each_task: whether each task chooses its own trial.
    """
    costs = [own.cost for own in fits.values()]
    ratios = [1.0 if operations is None else operations / own.inference for own in costs]
    return Entry(
        select(fits, each_task=each_task),
        float(np.mean([own.parameters for own in costs])),
        float(np.mean([own.inference * ratio for own, ratio in zip(costs, ratios, strict=True)])),
        float(
            sum(own.cost.training.mean() for own in before)
            + sum(own.training.mean() * ratio for own, ratio in zip(costs, ratios, strict=True))
        ),
    )


def dialled(
    match: Match,
    makes: Mapping[str, Make],
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    **common: Any,
) -> dict[str, Fit]:
    """The trials of a contestant with a dial: both rates for each of its values."""
    return {
        f"{dial}, {name}": own
        for dial, make in makes.items()
        for name, own in match.train(make, **common | dict((settings or {}).get(dial, {}))).items()
    }


# The contestants ----------------------------------------------------------------------------------


def separate(match: Match, width: int = WIDTH) -> Entry:
    """A network for each task, which chooses its trial and stops by its own validation loss."""
    make = partial(match.split_network, shared=0, width=width)
    return entered(match.train(make, decays=DECAYS, stopping="each"), each_task=True)


def wide(match: Match) -> Entry:
    """Separate networks as wide as the columns of all tasks together."""
    return separate(match, WIDTH * len(match.tasks))


def hard(match: Match) -> Entry:
    """One trunk; its dial is its width, once or twice that of a column."""
    makes = {
        f"{width} units": partial(match.split_network, shared=LAYERS, width=width)
        for width in (WIDTH, 2 * WIDTH)
    }
    return entered(dialled(match, makes))


def best_split(match: Match) -> Entry:
    """A trunk and branches; its dial is the layer behind which it branches."""
    makes = {
        f"split after {shared}": partial(match.split_network, shared=shared)
        for shared in range(1, LAYERS + 1)
    }
    return entered(dialled(match, makes))


def soft(match: Match) -> Entry:
    """Separate networks at a small distance; its dial is the strength."""
    make = partial(match.split_network, shared=0, same_start=True)
    strengths = {f"λ {own:g}": {"regulariser": SquaredDistance(own)} for own in SOFT}
    return entered(dialled(match, dict.fromkeys(strengths, make), strengths))


def relationship(match: Match) -> Entry:
    """A prior that relates the tasks' upper layer and heads; its dial is the strength."""

    def make() -> nn.Module:
        return DeepRelationshipNetwork(match.stages(), match.heads(), branch_at=LAYERS - 1)

    settings = {}
    for strength in PRIORS:
        prior = RelationshipPrior(strength, every=5)
        settings[f"λ {strength:g}"] = {"regulariser": prior, "after_step": prior.after_step}
    return entered(dialled(match, dict.fromkeys(settings, make), settings))


def cross_stitch(match: Match) -> Entry:
    """Columns with units; its dial is how much of itself a column keeps at first."""
    makes = {
        f"α {same:g}": lambda same=same: CrossStitch(match.stages(), match.heads(), same=same)
        for same in SAME
    }
    return entered(dialled(match, makes, share=0.5, start=match.columns), match.single[1])


def sluice(match: Match) -> Entry:
    """Columns of two subspaces, mixed over layers, too; its dial is that of cross-stitch.

    From scratch, as in its paper, from equal columns, and without the penalty of its subspaces,
    which raised the loss in pilots.
    """
    makes = {
        f"α {same:g}": lambda same=same: Sluice(
            from_one_start(match.stages()), match.heads(), same=same
        )
        for same in SAME
    }
    return entered(dialled(match, makes))


def factorised(match: Match) -> Entry:
    """Stacked layers in factors (LAF); its dial is the relative error of the start."""

    def make() -> TensorFactorisation:
        return TensorFactorisation(match.stages(), match.heads())

    def begin(model: nn.Module, seed: int, error: float) -> None:
        assert isinstance(model, TensorFactorisation)
        model.factorise(match.networks(seed), error=error)
        match.columns(model, seed)

    starts = {f"ε {error:g}": {"start": partial(begin, error=error)} for error in ERRORS}
    fits = dialled(match, dict.fromkeys(starts, make), starts, share=0.5)
    return entered(fits, match.single[1], operations=match.operations([make]))


def mixture(match: Match) -> Entry:
    """As many experts as tasks, a gate a task; its dial is whether gates have a bias."""
    makes = {
        f"{'a' if bias else 'no'} bias": lambda bias=bias: MixtureOfExperts(
            match.stages(),
            match.heads(),
            inputs=match.inputs,
            experts=len(match.tasks),
            bias=bias,
        )
        for bias in (False, True)
    }
    return entered(dialled(match, makes))


def extraction(match: Match) -> Entry:
    """An expert of each task in each of two levels, and shared ones; its dial is how many."""
    makes = {
        f"{shared} shared": lambda shared=shared: ProgressiveLayeredExtraction(
            match.stages(), match.heads(), inputs=[match.inputs, WIDTH], shared=shared
        )
        for shared in (1, 2)
    }
    return entered(dialled(match, makes))


def attention(match: Match) -> Entry:
    """Masks on one trunk; without a dial of its own, it tries two weight decays."""

    def make() -> nn.Module:
        channels = [WIDTH] * LAYERS
        return MultiTaskAttention(match.stages(), match.heads(), channels=channels, block=1)

    return entered(match.train(make, decays=DECAYS))


def tree(match: Match) -> Entry:
    """A trunk that branches from the top by the tasks' affinity; its dial is α."""
    share = 1 / (1 + LAYERS)

    def network(tree: Tree | None = None, room: Sequence[int] | None = None) -> TreeNetwork:
        return TreeNetwork(match.stages(), match.heads(), tree, room=room)

    trunk = match.train(network, share)
    training = [own.cost.training.mean() for own in trunk.values()]
    fits: dict[str, Fit] = {}
    grown: list[TreeNetwork] = []
    for alpha in ALPHAS:
        found = trunk
        for stage in reversed(range(LAYERS)):
            below = _chosen(select(found))
            trees = {seed: _branched(match, own, seed, stage, alpha) for seed, own in below.items()}
            room = np.max([own.shape for own in trees.values()], axis=0).tolist()
            makes = [partial(network, own) for own in trees.values()]
            found = match.train(makes, share, build=partial(_widened, below, trees, room))
            # Without the spare branches, which are there for the seeds with larger trees.
            own_share = match.operations(makes) / match.operations([partial(network, room=room)])
            training += [own_share * own.cost.training.mean() for own in found.values()]
        fits |= {f"α {alpha:g}, {name}": own for name, own in found.items()}
        grown += _chosen(select(found)).values()
    makes = [partial(network, own.tree) for own in grown]
    parameters = float(np.mean([own.size for own in grown]))
    return Entry(select(fits), parameters, match.operations(makes), float(sum(training)))


def _chosen(trained: Selected) -> dict[int, TreeNetwork]:
    """Each seed's network, with parameters that are trained where they were."""
    found = {}
    for seed, name in trained.choices.iloc[:, 0].items():
        model = trained.fits[str(name)].model(int(str(seed)))
        assert isinstance(model, TreeNetwork)
        found[int(str(seed))] = model
    return found


def _branched(match: Match, model: TreeNetwork, seed: int, stage: int, alpha: float) -> Tree:
    """A seed's tree with a stage split as the affinities of its tasks suggest."""
    sizes = [sum(own.numel() for own in layer.parameters()) for layer in match.stages()()]
    alike = match.affinity(model, seed)
    return widen(model.tree, stage, alike, alpha=alpha, unit_cost=sizes[stage] / sizes[-1])


def _widened(
    below: Mapping[int, TreeNetwork],
    trees: Mapping[int, Tree],
    room: Sequence[int],
    _data: MultiTaskData,
    seed: int,
) -> nn.Module:
    return below[seed].widened(trees[seed], room=room)


@dataclass(frozen=True)
class Contestant:
    """A way to share.

    Attributes:
        enter: trains it in a match.
        section: of the book, where it is explained.
        learned: whether it learns from data what to share.
    """

    enter: Callable[[Match], Entry]
    section: str
    learned: bool = False


CONTESTANTS: dict[str, Contestant] = {
    "single-task": Contestant(separate, "1"),
    "wide single-task": Contestant(wide, "3.1"),
    "hard sharing": Contestant(hard, "3.1"),
    "best split": Contestant(best_split, "6.3"),
    "soft L2": Contestant(soft, "3.2"),
    "relationship network": Contestant(relationship, "6.1", learned=True),
    "tree": Contestant(tree, "6.2", learned=True),
    "cross-stitch": Contestant(cross_stitch, "6.3", learned=True),
    "factorisation": Contestant(factorised, "6.7", learned=True),
    "sluice": Contestant(sluice, "6.8", learned=True),
    "MMoE": Contestant(mixture, "8.1", learned=True),
    "PLE": Contestant(extraction, "8.1", learned=True),
    "MTAN": Contestant(attention, "6.9", learned=True),
}
