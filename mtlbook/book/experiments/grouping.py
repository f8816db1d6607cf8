"""Section 8.5: all groups of six tasks trained at once, and what predicts their gains."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor, nn

from mtlbook.balancing.affinity import AffinityRecorder, best_partition
from mtlbook.book.experiments.networks import dense, hard_sharing
from mtlbook.book.experiments.training import adam
from mtlbook.combiner import Combiner
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.randomness import generator
from mtlbook.training.fit import fit_trials
from mtlbook.training.results import Fit
from mtlbook.training.sampling import Mixed
from mtlbook.training.settings import Settings, Trial
from mtlbook.weighting.linear_scalarisation import LinearScalarisation

Group = tuple[int, ...]
# By seed and predictor: row i says how much task i helps task j.
Affinities = Mapping[str, Float[ndarray, "seeds tasks tasks"]]


def groups_of(tasks: int) -> list[Group]:
    """All groups of tasks, single ones first: 63 of six."""
    return [group for size in range(1, tasks + 1) for group in combinations(range(tasks), size)]


@dataclass(frozen=True, kw_only=True)
class AllGroups:
    """Every group of tasks as a network of its own, all of one size, trained in one program.

    A task that is not in the group has weight 0, which leaves no trace; every task stops at its own
    best validation loss.

    Attributes:
        seeds: a replicate each.
        device: as for `fit`.
        data: from a seed to its data.
        split: of the rows.
        width: units of the shared layer.
        rate: of Adam.
        steps: of each training.
    """

    seeds: Sequence[int]
    device: str
    data: Callable[[int], MultiTaskData]
    split: Holdout
    width: int = 8
    rate: float = 0.02
    steps: int = 100

    @property
    def tasks(self) -> list[str]:
        """The tasks' names."""
        return [task.name for task in self.data(self.seeds[0]).tasks]

    def losses(self) -> dict[Group, Float[ndarray, "seeds _"]]:
        """The test losses of each group's members."""
        names = self.tasks
        groups = groups_of(len(names))
        weights = {
            str(group): LinearScalarisation(
                {name: float(number in group) for number, name in enumerate(names)}
            )
            for group in groups
        }
        fits = self._fitted(dict(weights), self.width)
        return {
            group: np.stack([fits[str(group)].score(names[t], "loss") for t in group], axis=1)
            for group in groups
        }

    def small(self, width: int) -> Float[ndarray, "seeds tasks"]:
        """The test losses of single-task networks of another width."""
        names = self.tasks
        weights = {
            name: LinearScalarisation({other: float(other == name) for other in names})
            for name in names
        }
        fits = self._fitted(dict(weights), width)
        return np.stack([fits[name].score(name, "loss") for name in names], axis=1)

    def predictors(self) -> dict[str, Float[ndarray, "seeds tasks tasks"]]:
        """By name, how much each task says about each other one without any group being trained.

        `affinity`: <g_i, g_j> / L_j, averaged over a joint training (Fifty et al., 2021, to first
        order). `cosine`: of the gradients, likewise. `label correlation`: of the training labels,
        in absolute value. `likeness`: how alike single-task networks see the training rows, the
        linear CKA of their layers. `chance`: uniform numbers.
        """
        names = self.tasks
        joint = self._fitted({"joint": AffinityRecorder(names)}, self.width)["joint"]
        recorded = [joint.combiner(seed, names[0]) for seed in self.seeds]
        kept = [own for own in recorded if isinstance(own, AffinityRecorder)]
        single = {
            name: LinearScalarisation({other: float(other == name) for other in names})
            for name in names
        }
        alone = self._fitted(dict(single), self.width)
        labels, likeness, chance = [], [], []
        for seed in self.seeds:
            data = self.data(seed)
            rows = self.split.draw(data, seed).train
            targets = torch.cat([_numbers(data.targets[name][rows]) for name in names], dim=1)
            labels.append(np.abs(np.corrcoef(targets.T.numpy())))
            inputs: Tensor = data.inputs[rows]
            trunks = [alone[name].model(seed, name).get_submodule("trunk") for name in names]
            hidden = [trunk(inputs).detach() for trunk in trunks]
            likeness.append([[linear_cka(a, b) for b in hidden] for a in hidden])
            source = generator(seed, "chance")
            chance.append(torch.rand(len(names), len(names), generator=source).double().numpy())
        return {
            "affinity": np.stack([own.affinity.numpy() for own in kept]),
            "cosine": np.stack([own.cosine.numpy() for own in kept]),
            "label correlation": np.stack(labels),
            "likeness": np.array(likeness),
            "chance": np.stack(chance),
        }

    def _fitted(self, combiners: dict[str, Combiner], width: int) -> dict[str, Fit]:
        def build(data: MultiTaskData, seed: int) -> nn.Module:  # noqa: ARG001
            return hard_sharing(dense(data.inputs.shape[1], width), data.tasks, width)

        settings = Settings(
            split=self.split,
            steps=self.steps,
            sampler=Mixed(32),
            stopping="each",
            validate_every=self.steps // 10,
            evaluate_on=["validation", "test"],
            device=self.device,
            progress_label="section 8.5",
        )
        trials = {name: Trial(adam(self.rate), own) for name, own in combiners.items()}
        return fit_trials(build, self.data, seeds=self.seeds, trials=trials, settings=settings)


def _numbers(target: Tensor) -> Tensor:
    return target.reshape(len(target), -1)[:, :1].double()


def linear_cka(first: Float[Tensor, "rows units"], second: Float[Tensor, "rows others"]) -> float:
    """‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖) of centred representations (Kornblith et al., 2019, equation 4)."""
    x, y = first - first.mean(0), second - second.mean(0)
    return float((y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm()))


def gains(
    losses: Mapping[Group, Float[ndarray, "seeds _"]],
) -> dict[Group, Float[ndarray, "seeds _"]]:
    """1 - L_t(group) / L_t(alone), %, for all groups of two tasks and more."""
    return {
        group: 100 * (1 - own / np.concatenate([losses[(t,)] for t in group], axis=1))
        for group, own in losses.items()
        if len(group) > 1
    }


def predicted(
    affinity: Float[ndarray, "tasks tasks"], groups: Iterable[Group]
) -> list[Float[ndarray, " _"]]:
    """For each member of each group the mean affinity of the other members to it."""
    found = []
    for group in groups:
        own = affinity[np.ix_(group, group)]
        found.append((own.sum(0) - own.diagonal()) / (len(group) - 1))
    return found


def rank_correlations(
    affinities: Affinities, true: Mapping[Group, Float[ndarray, "seeds _"]]
) -> dict[str, Float[ndarray, " seeds"]]:
    """By predictor and seed: Spearman's ρ with the gains of all members of all groups.

    The gains are the means over the *other* seeds: a prediction for these tasks, not for this
    training's luck.
    """
    seeds = len(next(iter(true.values())))
    found: dict[str, list[float]] = {name: [] for name in affinities}
    for seed in range(seeds):
        others = [row for row in range(seeds) if row != seed]
        measured = np.concatenate([own[others].mean(0) for own in true.values()])
        for name, affinity in affinities.items():
            guess = np.concatenate(predicted(affinity[seed], true))
            found[name].append(pd.Series(guess).corr(pd.Series(measured), method="spearman"))
    return {name: np.array(values) for name, values in found.items()}


def partition_losses(
    affinities: Affinities,
    losses: Mapping[Group, Float[ndarray, "seeds _"]],
    most: int,
) -> dict[str, Float[ndarray, " seeds"]]:
    """By predictor and seed: the mean relative test loss of its best partition's networks.

    Relative to single-task networks. Beside predictors: all tasks `together`, and the `oracle`, the
    partition that is best by the gains of the other seeds, of as many networks at most.

    Arguments:
        affinities: by predictor.
        losses: of every group.
        most: networks that one can afford.
    """
    true = gains(losses)
    tasks = len(next(iter(affinities.values()))[0])
    alone = np.concatenate([losses[(t,)] for t in range(tasks)], axis=1)
    seeds = len(alone)

    def of(groups: Iterable[Sequence[int]], seed: int) -> float:
        ratios = [
            losses[tuple(sorted(group))][seed] / alone[seed, sorted(group)] for group in groups
        ]
        return float(np.concatenate(ratios).mean())

    found: dict[str, list[float]] = {name: [] for name in (*affinities, "together", "oracle")}
    for seed in range(seeds):
        others = [row for row in range(seeds) if row != seed]
        mean = {group: own[others].mean(0).sum() for group, own in true.items()}
        for name, affinity in affinities.items():
            found[name].append(of(_chosen(affinity[seed], most), seed))
        found["together"].append(of([range(tasks)], seed))
        found["oracle"].append(of(_best_of(mean, tasks, most), seed))
    return {name: np.array(values) for name, values in found.items()}


def _chosen(affinity: Float[ndarray, "tasks tasks"], most: int) -> list[list[int]]:
    # Cosines, correlations and chance have no natural zero: their mean is one.
    off = affinity[~np.eye(len(affinity), dtype=bool)]
    return best_partition(affinity - off.mean() * (off.min() > 0), most=most)


def _best_of(gain: Mapping[Group, float], tasks: int, most: int) -> list[Group]:
    """The partition into at most so many groups with the largest total gain."""

    def tried(left: tuple[int, ...], networks: int) -> tuple[float, list[Group]]:
        if not left:
            return 0.0, []
        if networks == 0:
            return -np.inf, []
        first, rest = left[0], left[1:]
        best: tuple[float, list[Group]] = (-np.inf, [])
        for size in range(len(rest) + 1):
            for others in combinations(rest, size):
                group = (first, *others)
                remaining = tuple(t for t in rest if t not in others)
                value, groups = tried(remaining, networks - 1)
                best = max(best, (value + gain.get(group, 0.0), [group, *groups]))
        return best

    return tried(tuple(range(tasks)), most)[1]
