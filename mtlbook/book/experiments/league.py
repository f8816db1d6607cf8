"""Section 6.9's league: what plays in it, where, and by which rules.

A `World` is a data set with its split; a `Contestant` is a way to share. Each is one entry of a
registry, `worlds()` and `CONTESTANTS`, so that the recorded study and the page play the same match.

**Rules.** Two hidden layers of 16 tanh units wherever a method has a network, expert or column;
equal-weight losses of unit scale; AdamW; the same splits, initial draws and minibatches. Everyone
has four trials, two learning rates times two values of its own dial, chosen for each seed by the
mean relative validation loss (by each task's own for separate networks). Everyone takes the same
number of steps, stages on single tasks included: cross-stitch, sluice and factorised networks go on
from single-task networks that took half of the steps, and a tree takes a third of them in each of
its shapes. With `budget="FLOPs"` each trial takes as many steps as single-task networks would cost
in floating-point operations.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from itertools import product
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtlbook.architectures.cross_stitch import CrossStitch
from mtlbook.architectures.multi_task_attention import MultiTaskAttention
from mtlbook.book.experiments.networks import dense, hard_sharing
from mtlbook.book.experiments.results import trained_network
from mtlbook.book.experiments.training import adamw
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
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

WIDTH = 16
STEPS = 300
RATES = (0.003, 0.01)
DECAYS = (0.1, 1.0)  # weight decay, of those who have no dial of their own
DECAY = 0.1  # of those who have one
MOST_STEPS = 4  # with equal FLOPs, at most so many times the common number of steps


@dataclass(frozen=True, kw_only=True)
class World:
    """A data set of the league.

    Attributes:
        name: in tables and figures.
        data: from a seed to its data, with flat inputs.
        split: how its rows are divided.
        homes: the contestants for which it was constructed.
        real: whether it was not constructed.
        batch: rows a step, or with `balanced` rows a step of each task.
        balanced: a batch of each task's own rows, for several data sets and unequal labels.
        same_rows: whether some rows tell all tasks, as affinities between tasks need it.
    """

    name: str
    data: Callable[[int], MultiTaskData]
    split: Holdout
    homes: tuple[str, ...] = ()
    real: bool = False
    batch: int = 32
    balanced: bool = False
    same_rows: bool = True


@dataclass(frozen=True)
class Entry:
    """What a contestant has achieved in a world, and what it cost.

    Attributes:
        chosen: its last trainings, and each seed's choice among them.
        before: the trainings that these went on from.
        parameters: trainable ones, mean over the trials.
        inference: floating-point operations to predict one example, mean over the trials.
    """

    chosen: Selected
    before: Sequence[Fit] = ()
    parameters: float = 0.0
    inference: float = 0.0

    @property
    def training(self) -> float:
        """Floating-point operations of all its trainings, for one seed."""
        trained = [*self.before, *self.chosen.fits.values()]
        return float(sum(own.cost.training.mean() for own in trained))

    def losses(self, part: str = "test") -> Float[np.ndarray, "seeds tasks"]:
        """The loss of each task under each seed's chosen trial."""
        names = self.chosen.choices.columns
        return np.stack([self.chosen.score(name, "loss", part) for name in names], axis=1)


@dataclass(frozen=True, kw_only=True)
class Match:
    """A world, and what all contestants have in common in it.

    Attributes:
        world: where it is played.
        seeds: one replica of each trial each.
        device: where it is computed.
        steps: of every contestant, or with equal FLOPs of single-task networks.
        budget: what is equal.
        label: what a progress bar says.
    """

    world: World
    seeds: tuple[int, ...]
    device: str | torch.device = "cpu"
    steps: int = STEPS
    budget: Budget = "steps"
    label: str = "league"
    _drawn: dict[int, MultiTaskData] = field(default_factory=dict, repr=False)

    def data(self, seed: int) -> MultiTaskData:
        """A seed's data, made once."""
        if seed not in self._drawn:
            self._drawn[seed] = self.world.data(seed)
        return self._drawn[seed]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The world's tasks."""
        return self.data(self.seeds[0]).tasks

    def stages(self, width: int = WIDTH) -> Callable[[], Sequence[nn.Module]]:
        """Makes two hidden layers."""
        return dense(self.data(self.seeds[0]).inputs.shape[1], width, width)

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
        self, make: Callable[[], nn.Module], share: float = 1.0, **settings: Any
    ) -> dict[str, Fit]:
        """Train a network at both rates, and with several weight decays where these are given.

        Arguments:
            make: makes the network, the same for all seeds but for its draws.
            share: of the steps.
            **settings: of the training; `decays`, and `build` in the place of `make`.
        """
        decays = settings.pop("decays", (DECAY,))
        trials = {
            f"rate {rate:g}, decay {decay:g}": Trial(adamw(rate, decay))
            for rate, decay in product(RATES, decays)
        }
        steps = max(1, round(share * self.steps_of(make)))
        common: dict[str, Any] = {
            "split": self.world.split,
            "steps": steps,
            "sampler": (Balanced if self.world.balanced else Mixed)(self.world.batch),
            "validate_every": max(1, steps // 20),
            "stopping": "relative",
            "evaluate_on": ("validation", "test"),
            "device": self.device,
            "progress_label": f"{self.label}: {self.world.name}",
        }
        build = settings.pop("build", lambda _data, _seed: make())
        groups = [trials]
        if settings.get("after_step") is not None:  # it is told one learning rate
            groups = [{name: own} for name, own in trials.items()]
        found: dict[str, Fit] = {}
        for group in groups:
            own = dict(common | settings)
            if len(groups) > 1:
                ((name, trial),) = group.items()
                group, own = {name: Trial()}, own | {"optimiser": trial.optimiser}
            found |= fit_trials(
                build, self.data, seeds=self.seeds, trials=group, settings=Settings(**own)
            )
        return found

    def steps_of(self, make: Callable[[], nn.Module]) -> int:
        """The steps of a network: all the same, or for the same floating-point operations."""
        if self.budget == "steps":
            return self.steps
        ratio = self.operations(partial(self.split_network, shared=0)) / self.operations(make)
        return round(self.steps * min(ratio, MOST_STEPS))

    def operations(self, make: Callable[[], nn.Module]) -> float:
        """Floating-point operations by which a network predicts all tasks for an example."""
        from torch.utils.flop_counter import FlopCounterMode

        example = self.data(self.seeds[0]).inputs[:1]
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            make().to(example.dtype)(example)
        return float(counter.get_total_flops())

    @cached_property
    def single(self) -> tuple[Selected, list[Fit]]:
        """Single-task networks after half of the steps, all from the same initial weights."""
        make = partial(self.split_network, shared=0, same_start=True)
        fits = self.train(make, 0.5, stopping="each")
        return select(fits, each_task=True), list(fits.values())

    def columns(self, part: str, model: nn.Module, seed: int) -> None:
        """Give a network's columns and heads the weights of the single-task networks."""
        for task in self.tasks:
            source = trained_network(self.single[0], seed, task.name)
            for own, taken in ((f"{part}.{task.name}", f"branches.{task.name}"),) * 1 + (
                (f"heads.{task.name}",) * 2,
            ):
                model.get_submodule(own).load_state_dict(source.get_submodule(taken).state_dict())


def entered(fits: Mapping[str, Fit], before: Sequence[Fit] = (), **options: Any) -> Entry:
    """The entry of a contestant from all its trials."""
    costs = [own.cost for own in fits.values()]
    return Entry(
        select(fits, **options),
        before,
        float(np.mean([own.parameters for own in costs])),
        float(np.mean([own.inference for own in costs])),
    )


def dialled(
    match: Match,
    makes: Mapping[str, Callable[[], nn.Module]],
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
    """One trunk; its dial is its width, once or twice a column's."""
    makes = {
        f"{width} units": partial(match.split_network, shared=2, width=width)
        for width in (WIDTH, 2 * WIDTH)
    }
    return entered(dialled(match, makes))


def best_split(match: Match) -> Entry:
    """A trunk and branches; its dial is where it branches, behind the first or second layer."""
    makes = {
        f"split after {shared}": partial(match.split_network, shared=shared) for shared in (1, 2)
    }
    return entered(dialled(match, makes))


def soft(match: Match) -> Entry:
    """Separate networks at a small distance; its dial is the strength."""
    make = partial(match.split_network, shared=0, same_start=True)
    strengths = {f"λ {own:g}": {"regulariser": SquaredDistance(own)} for own in (1e-3, 1e-2)}
    return entered(dialled(match, dict.fromkeys(strengths, make), strengths))


def cross_stitch(match: Match) -> Entry:
    """Columns with units; its dial is how much of itself a column keeps at the start."""
    makes = {
        f"α {same:g}": partial(CrossStitch, match.stages(), match.heads(), same=same)
        for same in (0.9, 0.5)
    }
    fits = dialled(match, makes, share=0.5, start=partial(match.columns, "columns"))
    return entered(fits, match.single[1])


def attention(match: Match) -> Entry:
    """Masks on one trunk; it has no dial of its own but weight decay."""

    def make() -> nn.Module:
        channels = [WIDTH] * 2
        return MultiTaskAttention(match.stages(), match.heads(), channels=channels, block=1)

    return entered(match.train(make, decays=DECAYS))
