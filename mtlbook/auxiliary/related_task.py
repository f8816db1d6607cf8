r"""Section 7.1, a related task: how much its rows are worth, and when to stop listening to it.

A main task with n rows and an auxiliary one with n′ rows of its own are learnt by

    L = L_main + λ L_aux                                (Caruana, 1997; Ruder, 2017, section 7.1).

**How much.** Let both be linear in d inputs with orthonormal designs (XᵀX = n I), y = X w + σ ε and
y′ = X′ w′ + σ ε′, w and w′ unit vectors of cosine ρ, and let *one* linear model serve both. With
s = σ² d and squared losses summed over rows, the expected excess risk of the main task is

    R(λ) = (n s + λ² n′ s + λ² n′² · 2(1 − ρ)) / (n + λ n′)²,

which is least at λ* = s / (2(1 − ρ) n′ + s). There R = s / (n + λ* n′): the main task learns as
from n + λ* n′ rows of its own, never more than n + s / (2(1 − ρ)), however many rows the auxiliary
task has. With ρ = 1, λ* = 1 and each row counts as one of the main task's.

A loop that *averages* each task's loss over its rows has λ n′ / n in the place of λ: `on_means`.

**When to stop.** Zhang et al. (2014, section 3.2) stop each auxiliary task on its own, once

    med E_tr / (mean E_tr − med E_tr) · (E_val − min E_tr) / (λ min E_tr) > ε

over the last k looks at its training and validation losses: training has become flat, and the gap
to validation is wide. From then on its λ is 0. See `TaskwiseEarlyStopping`.

**Where it fails.** The formula is for one model that serves both tasks: heads of their own absorb
part of what differs. With random designs, n near d and a network's own regularisation, s/n is not
the main task's risk. The stopping rule needs validation labels of the auxiliary tasks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mtlbook.combiner import Combiner, Evidence
from mtlbook.errors import UsageError

HELD_OUT = ", held out"


@dataclass(frozen=True, kw_only=True)
class PooledRows:
    """One linear model for a main task and a related one: what the formulas above are about.

    Attributes:
        rows: n, of the main task.
        related_rows: n′, of the related task.
        cosine: ρ, of both tasks' unit weights.
        inputs: d.
        noise: σ, the standard deviation of both tasks' noise.

    Raises:
        UsageError: for counts below 1, a cosine outside −1 to 1, or noise that is not positive.

    Example:
        >>> pooled = PooledRows(rows=50, related_rows=800, cosine=0.7, inputs=20, noise=1.0)
        >>> round(pooled.best_weight, 3), round(pooled.effective_rows(), 1)
        (0.04, 82.0)
        >>> round(pooled.effective_rows(1.0), 1), round(pooled.most_rows, 1)
        (36.0, 83.3)
    """

    rows: int
    related_rows: int
    cosine: float
    inputs: int
    noise: float

    def __post_init__(self) -> None:
        if min(self.rows, self.related_rows, self.inputs) < 1:
            raise UsageError(
                f"Counts are at least 1: rows={self.rows}, related_rows={self.related_rows}, "
                f"inputs={self.inputs} are not."
            )
        if not -1 <= self.cosine <= 1:
            raise UsageError(f"A cosine lies between -1 and 1, not at {self.cosine}.")
        if not (isfinite(self.noise) and self.noise > 0):
            raise UsageError(
                f"noise is a standard deviation above 0, not {self.noise}: without noise the main "
                "task needs no help."
            )

    @property
    def spread(self) -> float:
        """The numerator s = σ² d of the main task's risk s / n from n rows of its own."""
        return self.noise**2 * self.inputs

    @property
    def distance(self) -> float:
        """2(1 − ρ), the squared distance of both tasks' weights."""
        return 2 * (1 - self.cosine)

    def risk(self, weight: float) -> float:
        """R(λ), the expected excess of the main task's squared error over its noise."""
        n, more = self.rows, weight * self.related_rows
        variance = n * self.spread + weight * more * self.spread
        return (variance + more**2 * self.distance) / (n + more) ** 2

    @property
    def best_weight(self) -> float:
        """λ*, the weight of least risk, for losses that are summed over rows."""
        return self.spread / (self.distance * self.related_rows + self.spread)

    def effective_rows(self, weight: float | None = None) -> float:
        """How many rows of its own would give the main task the same risk; by default with λ*."""
        return self.spread / self.risk(self.best_weight if weight is None else weight)

    @property
    def most_rows(self) -> float:
        """The limit n + s / (2(1 − ρ)) of the effective rows with λ*, for n′ without end."""
        return self.rows + (self.spread / self.distance if self.distance else inf)


def on_means(weight: float, *, rows: int, related_rows: int) -> float:
    """λ n′ / n: the weight for losses that are averaged over rows, from that for summed ones.

    Arguments:
        weight: λ of Σ_main + λ Σ_aux.
        rows: n, labelled rows of the main task.
        related_rows: n′, of the auxiliary task.

    Example:
        >>> on_means(1.0, rows=50, related_rows=800)
        16.0
    """
    if min(rows, related_rows) < 1:
        raise UsageError(f"Counts are at least 1: rows={rows}, related_rows={related_rows}.")
    return weight * related_rows / rows


class TaskwiseEarlyStopping(Combiner):
    """L_main + Σ_a λ_a L_a, in which each auxiliary task stops on its own (Zhang et al., 2014).

    Beside the losses of a step it takes, last and in the auxiliary tasks' order, their losses on
    held-out rows, which have no weight. They are averaged over `every` steps; that is a look. An
    auxiliary task whose criterion (see the module) exceeds the threshold has λ = 0 from the next
    step on, for good.

    Arguments:
        main: the main task, whose weight is 1.
        weights: λ_a > 0 by auxiliary task.
        threshold: ε.
        window: k, looks over which the trend of the training loss is judged.
        every: steps a look.

    Attributes:
        tasks: main, auxiliary tasks, and each auxiliary's name with `, held out`.
        stopped_at: for each auxiliary task the step at which it stopped; 0 while it goes on.

    Raises:
        UsageError: for no auxiliary task, one that is the main task, or impossible numbers.

    Example:
        >>> rule = TaskwiseEarlyStopping("pose", {"smile": 0.5}, threshold=1.0, window=3, every=1)
        >>> rule.tasks
        ('pose', 'smile', 'smile, held out')
        >>> for held_out in (0.5, 0.6, 0.7, 0.8):  # it grows, and training is flat
        ...     total = rule(torch.tensor([2.0, 0.4, held_out]))
        >>> rule.stopped_at, total
        (tensor([3]), tensor(2.))
    """

    stopped_at: Int[Tensor, "*replicas auxiliaries"]
    steps: Int[Tensor, "*replicas"]
    sums: Float[Tensor, "*replicas parts auxiliaries"]
    looks: Float[Tensor, "*replicas window auxiliaries"]
    least: Float[Tensor, "*replicas auxiliaries"]

    def __init__(
        self,
        main: str,
        weights: Mapping[str, float],
        *,
        threshold: float,
        window: int = 5,
        every: int = 10,
    ) -> None:
        if not weights or main in weights:
            raise UsageError(
                f"Auxiliary tasks stop on their own, beside the main task {main!r}: name their "
                f"weights, not {dict(weights)}."
            )
        if not all(isfinite(weight) and weight > 0 for weight in weights.values()):
            raise UsageError(f"Weights of auxiliary tasks are above 0: {dict(weights)} are not.")
        if window < 2 or every < 1 or not threshold > 0:
            raise UsageError(
                "A trend needs a window of at least 2 looks, a look at least 1 step, and the "
                f"threshold is above 0: window={window}, every={every}, threshold={threshold}."
            )
        super().__init__([main, *weights, *(f"{name}{HELD_OUT}" for name in weights)])
        self.weights, self.threshold, self.every = dict(weights), threshold, every
        count = len(weights)
        self.register_buffer("stopped_at", torch.zeros(count, dtype=torch.long))
        self.register_buffer("steps", torch.tensor(0))
        self.register_buffer("sums", torch.zeros(2, count))
        self.register_buffer("looks", torch.full((window, count), inf))
        self.register_buffer("least", torch.full((count,), inf))

    def weigh(self, evidence: Evidence) -> Float[Tensor, "*replicas tasks"]:
        """1, each λ that has not stopped, and 0 for what is held out; takes note of the losses."""
        going = (self.stopped_at == 0).to(evidence.losses)
        own = going * evidence.losses.new_tensor(list(self.weights.values()))
        weights = torch.cat([torch.ones_like(own[..., :1]), own, torch.zeros_like(own)], dim=-1)
        if self.training:
            self._note(evidence.losses[..., 1:])
        return weights.expand_as(evidence.losses).where(evidence.labelled, 0)

    def _note(self, losses: Float[Tensor, "*replicas both"]) -> None:
        """Add a step's training and held-out losses; at the end of a look, judge."""
        self.steps += 1
        self.sums += torch.stack(losses.chunk(2, dim=-1), dim=-2).to(self.sums)
        if bool((self.steps % self.every).any()):
            return  # all replicas take the same steps
        training, held_out = (self.sums / self.every).unbind(-2)
        self.sums.zero_()
        self.looks = torch.cat([self.looks[..., 1:, :], training.unsqueeze(-2)], dim=-2)
        self.least = torch.minimum(self.least, training)
        stops = (self.criterion(held_out) > self.threshold) & (self.stopped_at == 0)
        self.stopped_at = torch.where(stops, self.steps.unsqueeze(-1), self.stopped_at)

    def criterion(
        self, held_out: Float[Tensor, "*replicas auxiliaries"]
    ) -> Float[Tensor, "*replicas auxiliaries"]:
        """What is compared with ε: the trend of the training loss times the gap to validation.

        A loss that falls fast, then slowly, has its mean above its median: its trend is small. It
        is ∞ where the two are equal, as of a flat loss, and negative, which never stops a task,
        where noise puts the mean below. −∞ until the window is full.
        """
        full = self.looks.isfinite().all(-2)
        looks = self.looks.where(full.unsqueeze(-2), 1.0)
        middle, mean = looks.quantile(0.5, dim=-2), looks.mean(-2)
        moves = (mean - middle).abs() > 1e-9 * mean.abs()  # beyond rounding
        trend = torch.where(moves, middle / (mean - middle).where(moves, 1.0), inf)
        weights = self.least.new_tensor(list(self.weights.values()))
        gap = (held_out - self.least) / (weights * self.least)
        return torch.where(full & (gap > 0), trend * gap, -inf)


def held_out_losses(
    training: Mapping[str, Float[Tensor, ""]], held_out: Mapping[str, Float[Tensor, ""]]
) -> dict[str, Any]:
    """Both kinds of losses by the names that `TaskwiseEarlyStopping` has for them.

    Arguments:
        training: of the main task and of the auxiliary ones, on a step's batch.
        held_out: of the auxiliary tasks, on held-out rows; their gradient is cut.
    """
    return dict(training) | {f"{name}{HELD_OUT}": own.detach() for name, own in held_out.items()}
