"""Section 6.2: networks that branch by affinity, random trees of their shapes, and their rivals.

A tree is grown in phases: a wide network takes an eighth of the steps, the thin one that is cut
out of it three eighths, and behind the split of each stage, from the last one down, the network
takes an equal part of the rest. Two values of α, the weight of dissimilar branches, are its two
trials. A *random tree* grows from the same thin network in the same shapes and steps; only who
shares with whom is drawn. Hard sharing is cut out of the same wide network and takes all further
steps at two rates; the two splits go on from the same thin networks. Single-task networks take all
steps at two rates. Of the two trials validation data choose one for each seed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.metrics import adjusted_rand_score
from torch import Tensor, nn

from mtlbook.architectures.fully_adaptive_sharing import Tree, TreeNetwork, affinity, margins, widen
from mtlbook.architectures.matching_pursuit import thin_start
from mtlbook.book.experiments.networks import Stages, hard_sharing, linear_head
from mtlbook.book.experiments.training import adam
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.randomness import generator
from mtlbook.sharing.hard import HardSharing
from mtlbook.training.fit import Data, fit_trials
from mtlbook.training.results import Fit
from mtlbook.training.sampling import Mixed
from mtlbook.training.selection import Selected, select
from mtlbook.training.settings import Settings, Trial

Trees = Mapping[int, Tree]  # by seed
Alike = Callable[[Tensor], Tensor]  # from margins to an affinity
# Dense stages have no poolings: each counts as three, so that a branch costs eight times as much a
# stage below. (The five poolings of the paper's network make its lowest layers cost 32 times.)
POOLINGS = 3


@dataclass(frozen=True, kw_only=True)
class Branching:
    """Binary tasks on the same rows, and how networks for them are grown and trained.

    Attributes:
        seeds: one replica each.
        device: where.
        data: one data set, or a function from a seed to its data.
        split: how its rows are divided.
        stages: from a width to a function that makes the stages.
        width: units of each stage of a branch.
        wide: units of the network out of which the thin start is cut.
        steps: optimiser steps of every contestant, all its phases together.
        growing: the learning rates of each phase of a tree; each seed goes on from the best.
        rates: those of hard sharing and of single-task networks.
        alphas: the values of α, with L_0 = 1.
        batch: rows a step.
        dtype: of all numbers.
    """

    seeds: Sequence[int]
    device: str | torch.device
    data: Data
    split: Holdout
    stages: Callable[[int], Stages]
    width: int
    wide: int
    steps: int
    growing: Sequence[float] = (0.03,)
    rates: Sequence[float] = (0.03, 0.01)
    alphas: Sequence[float] = (5.0, 10.0)
    batch: int = 32
    dtype: torch.dtype = torch.float64

    @property
    def depth(self) -> int:
        """How many stages a network has."""
        return len(self.stages(self.width)())

    @property
    def phases(self) -> list[int]:
        """Steps of each phase of a tree: an eighth, three eighths, the rest in equal parts."""
        wide, thin = self.steps // 8, 3 * self.steps // 8
        return [wide, thin, *[(self.steps - wide - thin) // self.depth] * self.depth]

    def train(
        self,
        build: Callable[[MultiTaskData, int], nn.Module],
        rates: Sequence[float],
        **settings: Any,
    ) -> dict[str, Fit]:
        """Train with each learning rate, all seeds and rates at once."""
        common: dict[str, Any] = {
            "split": self.split,
            "sampler": Mixed(self.batch),
            "steps": self.steps,
            "validate_every": 25,
            "evaluate_on": ("validation", "test"),
            "device": self.device,
            "dtype": self.dtype,
            "progress_label": "section 6.2",
        }
        return fit_trials(
            build,
            self.data,
            seeds=self.seeds,
            trials={f"rate {rate:g}": Trial(adam(rate)) for rate in rates},
            settings=Settings(**common | settings),
        )

    def training_rows(self, seed: int) -> MultiTaskData:
        """A seed's training data."""
        data = self.data if isinstance(self.data, MultiTaskData) else self.data(seed)
        return data.subset(self.split.draw(data, seed).train)

    def margins(self, seed: int, model: nn.Module) -> Float[Tensor, "rows tasks"]:
        """The margins |p − g| of a network's binary tasks on the training rows."""
        rows = self.training_rows(seed)
        with torch.no_grad():
            logits = model(rows.inputs.to(self.dtype))
        columns = [(logits[task.name].sigmoid(), rows.targets[task.name]) for task in rows.tasks]
        return torch.cat([margins(own, labels) for own, labels in columns], dim=1)

    def affinities(self, alike: Alike = affinity) -> Float[Tensor, "seeds tasks tasks"]:
        """The affinity of the tasks on each seed's thin network, before the first split."""
        return torch.stack([alike(self.margins(s, _chosen(self.thin, s))) for s in self.seeds])

    # Rivals ---------------------------------------------------------------------------------------

    def single_task(self) -> Selected:
        """A network for each task, which chooses its rate and stops by its own validation loss."""
        return select(self.train(self.separate, self.rates, stopping="each"), each_task=True)

    def separate(self, data: MultiTaskData, _seed: int) -> HardSharing:
        """Single-task networks."""
        return hard_sharing(self.stages(self.width), data.tasks, self.width, branch_at=0)

    def best_split(self) -> Selected:
        """Hard sharing and the split in front of the last stage, from the same thin networks."""
        fits: dict[str, Fit] = {}
        for name, apart in (("hard sharing", False), (f"split after {self.depth - 1}", True)):
            trees = {}
            for seed in self.seeds:
                trunk = _tree_of(self.thin, seed)
                tasks = range(len(trunk.groups[0]))
                trees[seed] = trunk.split(self.depth - 1, tasks) if apart else trunk
            build = partial(_widened, self.thin, trees, trees[self.seeds[0]].shape)
            found = self.train(build, self.growing, steps=sum(self.phases[2:]))
            fits |= {f"{name}, {rate}": own for rate, own in found.items()}
        return select(fits)

    def hard_sharing(self, sizes: Mapping[int, int]) -> Selected:
        """Hard sharing with nearest to as many parameters as each seed's tree.

        It is cut out of the same wide networks and takes all further steps. Seeds train together in
        networks of the largest width that one of them needs: a unit with weights 0 on both sides,
        behind which stands tanh, gets the gradient 0 and stays away.
        """
        widths = {seed: self.width_of(size) for seed, size in sizes.items()}
        build = partial(self.padded, widths=widths, room=max(widths.values()))
        return select(self.train(build, self.rates, steps=sum(self.phases[1:])))

    def width_of(self, size: int) -> int:
        """The width with which hard sharing has nearest to so many parameters."""
        data = self.training_rows(self.seeds[0])
        width = 1
        while (above := self.trunk(data, width + 1).size) < size:
            width += 1
        return width + (above - size < size - self.trunk(data, width).size)

    def padded(
        self, data: MultiTaskData, seed: int, widths: Mapping[int, int], room: int
    ) -> TreeNetwork:
        """A trunk of a seed's own width in a wider one whose further units are silent."""
        own, wider = self.cut(data, seed, widths[seed]), self.trunk(data, room)
        with torch.no_grad():
            for values, source in zip(wider.parameters(), own.parameters(), strict=True):
                if values.requires_grad:
                    values.zero_()
                    values[tuple(slice(size) for size in source.shape)] = source
        return wider

    def trunk(self, data: MultiTaskData, width: int) -> TreeNetwork:
        """Hard sharing: a tree that has not branched."""
        heads = {task.name: linear_head(width, task) for task in data.tasks}
        return TreeNetwork(self.stages(width), heads)

    # Trees ----------------------------------------------------------------------------------------

    @cached_property
    def wide_network(self) -> Selected:
        """The wide networks, trained for a phase."""

        def build(data: MultiTaskData, _seed: int) -> TreeNetwork:
            return self.trunk(data, self.wide)

        return select(self.train(build, self.growing, steps=self.phases[0]))

    @cached_property
    def thin(self) -> Selected:
        """The thin networks: cut out of the wide ones, then trained for a phase."""
        return select(self.train(self.cut, self.growing, steps=self.phases[1]))

    def cut(self, data: MultiTaskData, seed: int, width: int | None = None) -> TreeNetwork:
        """A trunk of a width, by default the thin one, cut out of a seed's wide network."""
        thin, wide = self.trunk(data, width or self.width), _chosen(self.wide_network, seed)
        assert isinstance(wide, TreeNetwork)
        pairs = list(zip(wide.heads.values(), thin.heads.values(), strict=True))
        thin_start(_trunk_of(wide), _trunk_of(thin), pairs)
        return thin

    def grown(self) -> "Grown":
        """Trees that branch by the affinity of their tasks."""
        plans: dict[float, list[Trees]] = {alpha: [] for alpha in self.alphas}

        def planned(alpha: float, stage: int, current: Selected) -> Trees:
            trees = {}
            for seed in self.seeds:
                model = _chosen(current, seed)
                assert isinstance(model, TreeNetwork)
                alike = affinity(self.margins(seed, model))
                above = POOLINGS * (self.depth - 1 - stage)
                trees[seed] = widen(model.tree, stage, alike, alpha=alpha, poolings=above)
            plans[alpha].append(trees)
            return trees

        return Grown(self._grow(planned), plans)

    def random(self, grown: "Grown") -> "Grown":
        """Trees of the shapes of others, in which the tasks' places are drawn."""
        orders = {}
        for seed in self.seeds:
            tasks = len(grown.plans[self.alphas[0]][0][seed].groups[0])
            source = generator(seed, "random tree")
            orders[seed] = torch.randperm(tasks, generator=source).tolist()
        plans = {
            alpha: [
                {seed: tree.permuted(orders[seed]) for seed, tree in trees.items()} for trees in own
            ]
            for alpha, own in grown.plans.items()
        }

        def planned(alpha: float, stage: int, _current: Selected) -> Trees:
            return plans[alpha][self.depth - 1 - stage]

        return Grown(self._grow(planned), plans)

    def _grow(self, planned: Callable[[float, int, Selected], Trees]) -> Selected:
        """For each α split stage after stage from the last one down, and train behind each."""
        fits: dict[str, Fit] = {}
        for alpha in self.alphas:
            current, found = self.thin, {}
            for stage in reversed(range(self.depth)):
                trees = planned(alpha, stage, current)
                room = np.array([tree.shape for tree in trees.values()]).max(0).tolist()
                build = partial(_widened, current, trees, room)
                found = self.train(build, self.growing, steps=self.phases[-1])
                current = select(found)
            fits |= {f"α {alpha:g}, {name}": own for name, own in found.items()}
        return select(fits)


@dataclass(frozen=True)
class Grown:
    """Networks that branch, and their trees.

    Attributes:
        fits: of the last phase: each α and rate, and each seed's choice.
        plans: by α the trees behind each split, the last stage's first.
    """

    fits: Selected
    plans: Mapping[float, Sequence[Trees]]

    def tree(self, seed: int) -> Tree:
        """The tree of a seed's chosen network."""
        return self.network(seed).tree

    def network(self, seed: int) -> TreeNetwork:
        """A seed's chosen network."""
        model = _chosen(self.fits, seed)
        assert isinstance(model, TreeNetwork)
        return model

    @property
    def sizes(self) -> dict[int, int]:
        """The trainable parameters of each seed's chosen tree."""
        return {seed: self.network(seed).size for seed in self.fits.choices.index}

    def agreement(self, truth: Sequence[int]) -> Float[np.ndarray, " seeds"]:
        """The adjusted Rand index of each seed's groups in the last stage and the true ones."""
        found = [self.tree(seed).groups[-1] for seed in self.fits.choices.index]
        return np.array([adjusted_rand_score(truth, own) for own in found])


def _chosen(trained: Selected, seed: int) -> nn.Module:
    """A copy of a seed's chosen network, with parameters that are trained where they were."""
    name = trained.choices.loc[seed].iloc[0]
    return trained.fits[name].model(seed)


def _trunk_of(model: TreeNetwork) -> list[nn.Module]:
    """The first branch of every stage."""
    return [model.get_submodule(f"branches.{place}.0") for place in range(len(model.branches))]


def _tree_of(trained: Selected, seed: int) -> Tree:
    model = _chosen(trained, seed)
    assert isinstance(model, TreeNetwork)
    return model.tree


def _widened(
    current: Selected, trees: Trees, room: Sequence[int], _data: MultiTaskData, seed: int
) -> nn.Module:
    model = _chosen(current, seed)
    assert isinstance(model, TreeNetwork)
    return model.widened(trees[seed], room=room)
