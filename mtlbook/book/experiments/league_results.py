"""What the league's record says: improvements by world, ranks, harm, costs, and their intervals.

Everything is relative to single-task networks: losses are divided by their mean loss of each task,
and averaged over the tasks; what a seed contributes to Δm, in percent, is by how much theirs is
larger. Seeds are replicates within a world, and worlds are replicates of the league, so that
intervals over worlds come from a *hierarchical bootstrap*: worlds are drawn with replacement, and
in each drawn world its seeds. Worlds were constructed for methods; what is averaged over worlds
therefore leaves out each method's home.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata

from mtlbook.book.experiments.league import CONTESTANTS
from mtlbook.book.experiments.league_worlds import WORLDS, World
from mtlbook.book.studies import Record
from mtlbook.randomness import generator
from mtlbook.statistics import Effect, paired_effect

BASELINE = "single-task"
DRAWS = 2_000
PERCENTILES = (2.5, 97.5)
COSTS = ("parameters", "inference", "training")

ByMethod = Float[np.ndarray, " methods"]


@dataclass(frozen=True, eq=False)
class Results:
    """The league's results.

    Attributes:
        methods: the contestants.
        losses: by world the test losses.
        equal_flops: by world the mean over tasks of the loss relative to single-task networks',
            with equal floating-point operations.
        validation: by world the mean relative validation loss of each contestant.
        costs: by the name of a cost, by world, that of each contestant.
        homes: by world the contestants for which it was constructed.
        real: the worlds that were not constructed.
    """

    methods: tuple[str, ...]
    losses: Mapping[str, Float[np.ndarray, "methods seeds tasks"]]
    equal_flops: Mapping[str, Float[np.ndarray, "methods seeds"]]
    validation: Mapping[str, ByMethod]
    costs: Mapping[str, Mapping[str, ByMethod]]
    homes: Mapping[str, Sequence[str]]
    real: Sequence[str]

    @property
    def worlds(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self.losses)

    @property
    def learned(self) -> tuple[str, ...]:
        """The contestants that learn from data what to share."""
        return tuple(name for name in self.methods if CONTESTANTS[name].learned)

    def place(self, method: str) -> int:
        """A contestant's number."""
        return self.methods.index(method)

    # Within a world -------------------------------------------------------------------------------

    def relative(self, world: str) -> Float[np.ndarray, "methods seeds tasks"]:
        """Losses over the single-task networks' mean loss of each task."""
        losses = self.losses[world]
        return losses / losses[self.place(BASELINE)].mean(0)

    def relative_loss(self, method: str, world: str) -> Float[np.ndarray, " seeds"]:
        """A contestant's relative loss, averaged over the tasks."""
        return self.relative(world)[self.place(method)].mean(-1)

    def effect(self, method: str, world: str, baseline: str = BASELINE) -> Effect:
        """The reduction of the relative loss against another contestant, %, paired by seed."""
        sides = self.relative_loss(method, world), self.relative_loss(baseline, world)
        return paired_effect(*sides, higher_is_better=False, relative=True)

    def best_learned(self, world: str) -> str:
        """Of the methods that learn what to share, the best on a world's validation data."""
        values = self.validation[world]
        return min(self.learned, key=lambda name: values[self.place(name)])

    # Over worlds ----------------------------------------------------------------------------------

    @cached_property
    def improvements(self) -> Float[np.ndarray, "methods worlds seeds"]:
        """What each seed contributes to Δm, paired with the single-task networks' seed."""
        return self._improved_on_single_task([self.relative(own).mean(-1) for own in self.worlds])

    @cached_property
    def improvements_at_equal_flops(self) -> Float[np.ndarray, "methods worlds seeds"]:
        """The same with equal floating-point operations."""
        return self._improved_on_single_task([self.equal_flops[own] for own in self.worlds])

    def _improved_on_single_task(
        self, relative: Sequence[Float[np.ndarray, "methods seeds"]]
    ) -> Float[np.ndarray, "methods worlds seeds"]:
        values = np.stack(relative, axis=1)
        return 100 * (values[self.place(BASELINE)] - values)

    @cached_property
    def at_home(self) -> Bool[np.ndarray, "methods worlds"]:
        """Where a world was constructed for a method."""
        return np.array(
            [[method in self.homes[world] for world in self.worlds] for method in self.methods]
        )

    def mean_improvement(self) -> list[Effect]:
        """Each contestant's Δm, averaged over the worlds but its home."""
        return self._bootstrapped(lambda values: values)

    def mean_difference(self, baseline: str) -> list[Effect]:
        """Each contestant's Δm less another's, averaged over the worlds but both homes."""
        place = self.place(baseline)
        return self._bootstrapped(
            lambda values: values - values[..., place, None, :], self.at_home | self.at_home[place]
        )

    def mean_rank(self) -> list[Effect]:
        """Each contestant's rank (1 is the best), averaged over the worlds but its home."""
        return self._bootstrapped(lambda values: rankdata(-values, axis=-2))

    def _bootstrapped(
        self,
        statistic: Callable[[Float[np.ndarray, "..."]], Float[np.ndarray, "..."]],
        left_out: Bool[np.ndarray, "methods worlds"] | None = None,
    ) -> list[Effect]:
        """The mean over worlds of a statistic by contestant, its home left out, or more."""
        homes = self.at_home if left_out is None else left_out
        values = self.improvements.mean(-1)  # methods × worlds
        estimate = _mean_without(statistic(values), homes)
        drawn_values, drawn = hierarchical_draws(self.improvements)
        of_draws = homes[:, drawn].swapaxes(0, 1)  # draws × methods × worlds
        spread = _mean_without(statistic(drawn_values), of_draws)
        low, high = np.nanpercentile(spread, PERCENTILES, axis=0)
        worlds = len(self.worlds)
        above = np.minimum((spread > 0).mean(0), (spread < 0).mean(0))
        return [
            Effect(float(middle), float(lower), float(upper), float(min(1.0, 2 * p)), worlds)
            for middle, lower, upper, p in zip(estimate, low, high, above, strict=True)
        ]

    # Harm and cost --------------------------------------------------------------------------------

    def harmed(self) -> ByMethod:
        """The share of tasks, over seeds and worlds, whose loss is above single-task networks'."""
        own = [losses > losses[self.place(BASELINE)] for losses in self.losses.values()]
        return np.mean([worse.mean((1, 2)) for worse in own], axis=0)

    def improved(self, baseline: str = BASELINE) -> ByMethod:
        """The probability of improvement: how often a seed's Δm is above another contestant's."""
        reference = self.improvements[self.place(baseline)]
        return (self.improvements > reference).mean((1, 2))

    def worst_task(self) -> ByMethod:
        """The least improvement of any task, a mean over seeds, %."""
        own = [100 * (1 - self.relative(world).mean(1)).min(-1) for world in self.worlds]
        return np.min(own, axis=0)

    def cost(self, name: str) -> ByMethod:
        """A cost in multiples of single-task networks', the geometric mean over worlds."""
        ratios = [own / own[self.place(BASELINE)] for own in self.costs[name].values()]
        return np.exp(np.log(ratios).mean(0))

    def table(self) -> pd.DataFrame:
        """Costs, improvement, harm and rank, a row a contestant, the best rank first."""
        ranks = self.mean_rank()
        improvements = self.mean_improvement()
        frame = pd.DataFrame(
            {
                "method": self.methods,
                **{f"{name} ×": self.cost(name) for name in COSTS},
                "Δm, %": [_text(own) for own in improvements],
                "worst task, %": self.worst_task().round(),
                "harmed, %": 100 * self.harmed(),
                "P(better), %": 100 * self.improved(),
                "mean rank": [_text(own, signed=False) for own in ranks],
            }
        )
        order = np.argsort([own.estimate for own in ranks], kind="stable")
        return frame.iloc[order].reset_index(drop=True)


def read(record: Record, worlds: Mapping[str, Callable[[], World]] = WORLDS) -> Results:
    """The results of a record of the study."""
    frame = record.results
    methods = tuple(dict.fromkeys(frame["method"]))
    losses, flops, validation = {}, {}, {}
    costs: dict[str, dict[str, ByMethod]] = {name: {} for name in COSTS}
    for world, own in frame.groupby("world", sort=False):
        name = str(world)
        loss = own[own["metric"] == "loss"]
        tasks = list(dict.fromkeys(loss["task"]))
        table = loss.pivot_table("value", index=["method", "seed"], columns="task")
        losses[name] = np.stack([table.loc[method, tasks].to_numpy() for method in methods])
        equal = own[own["metric"] == "loss at equal FLOPs"].pivot_table(
            "value", index="method", columns="seed"
        )
        flops[name] = equal.loc[list(methods)].to_numpy()
        once = own.pivot_table("value", index="method", columns="metric").loc[list(methods)]
        validation[name] = once["validation"].to_numpy()
        for cost in COSTS:
            costs[cost][name] = once[cost].to_numpy()
    made = {name: worlds[name]() for name in losses}
    homes = {name: own.homes for name, own in made.items()}
    real = [name for name, own in made.items() if own.real]
    return Results(methods, losses, flops, validation, costs, homes, real)


def over_worlds(record: Record, results: Results) -> Record:
    """The record as one whose replicates are the worlds, for claims about all of them."""
    return replace(record, seeds=list(range(len(results.worlds))))


def hierarchical_draws(
    values: Float[np.ndarray, "methods worlds seeds"], draws: int = DRAWS
) -> tuple[Float[np.ndarray, "draws methods worlds"], Int[np.ndarray, "draws worlds"]]:
    """Means over seeds of drawn worlds, and the worlds drawn: first worlds, then their seeds.

    Example:
        >>> values, worlds = hierarchical_draws(np.ones((2, 3, 4)), draws=5)
        >>> values.shape, worlds.shape, float(values.std())
        ((5, 2, 3), (5, 3), 0.0)
    """
    _, worlds, seeds = values.shape
    source = np.random.default_rng(generator(0, "hierarchical bootstrap").initial_seed())
    drawn = source.integers(worlds, size=(draws, worlds))
    counts = source.multinomial(seeds, [1 / seeds] * seeds, size=(draws, worlds))
    chosen = values[:, drawn]  # methods × draws × worlds × seeds
    return np.einsum("mdws,dws->dmw", chosen, counts / seeds), drawn


def _mean_without(
    values: Float[np.ndarray, "*draws methods worlds"], homes: Bool[np.ndarray, "..."]
) -> Float[np.ndarray, "*draws methods"]:
    """The mean over worlds of what is no home; NaN where a draw holds homes alone."""
    away = ~homes
    total = np.where(away, values, 0.0).sum(-1)
    with np.errstate(invalid="ignore"):
        return total / np.where(away.any(-1), away.sum(-1), np.nan)


def _text(own: Effect, *, signed: bool = True) -> str:
    style = "+.1f" if signed else ".1f"
    return f"{own.estimate:{style}} [{own.low:{style}}, {own.high:{style}}]"
