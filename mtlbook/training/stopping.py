"""Early stopping: which weights each replica keeps, and when it has waited long enough."""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.errors import UsageError
from mtlbook.training.settings import Criterion

# Relative: far above the rounding of float64, far below what matters.
ROUNDING = 1e-9


def sum_of_losses(losses: Mapping[str, Tensor]) -> Float[Tensor, " replicas"]:
    """The sum of the tasks' validation losses: tasks with large losses weigh more."""
    return torch.stack(list(losses.values())).sum(0)


class Stopping:
    """The least value so far of each criterion for each replica.

    Arguments:
        rule: as in `Settings`.
        patience: evaluations without improvement after which a replica stops.
        tasks: the tasks' names.
        replicas: how many there are.

    Attributes:
        criteria: for each criterion the tasks whose weights it decides on.
        stopped_at: the step at which each replica stopped; 0 while it trains.
    """

    def __init__(
        self,
        rule: str | Criterion | None,
        patience: int | None,
        tasks: Sequence[str],
        replicas: int,
    ) -> None:
        self._tasks, self._patience = tuple(tasks), patience
        self.criteria, self._values = self._rule(rule)
        shape = (len(self.criteria), replicas)
        self._least = torch.full(shape, torch.inf, dtype=torch.float64)
        self._waited = torch.zeros(shape, dtype=torch.long)
        self._first: Tensor | None = None
        self.stopped_at = torch.zeros(replicas, dtype=torch.long)

    def _rule(self, rule: str | Criterion | None) -> tuple[list[tuple[str, ...]], list[Criterion]]:
        if rule is None:
            return [], []
        if rule == "each":
            return [(name,) for name in self._tasks], [self._of_task(n) for n in self._tasks]
        if callable(rule):
            return [self._tasks], [rule]
        known: dict[str, Criterion] = {"relative": self._relative, "sum": sum_of_losses}
        known |= {name: self._of_task(name) for name in self._tasks}
        if rule not in known:
            raise UsageError(
                f"There is no stopping {rule!r}: choose relative, sum, each, None, a function of "
                f"the task losses or one of {list(self._tasks)}."
            )
        return [self._tasks], [known[rule]]

    @staticmethod
    def _of_task(name: str) -> Criterion:
        return lambda losses: losses[name]

    def _relative(self, losses: Mapping[str, Tensor]) -> Float[Tensor, " replicas"]:
        """The mean over tasks of the loss relative to that of the untrained network."""
        now = torch.stack(list(losses.values()))
        assert self._first is not None
        # A task that starts without loss is measured in its own unit.
        return (now / torch.where(self._first > 0, self._first, 1.0)).mean(0)

    @property
    def training(self) -> Tensor:
        """Which replicas still train."""
        return self.stopped_at == 0

    @property
    def needs_first(self) -> bool:
        """Whether the losses of the untrained network are still to be shown (`begin`)."""
        return self._first is None and self._relative in self._values

    def begin(self, losses: Float[Tensor, "replicas tasks"]) -> None:
        """Take note of the validation losses of the untrained network."""
        self._first = losses.T.double().cpu()

    def see(
        self,
        losses: Float[Tensor, "replicas tasks"],
        step: int,
        keep: Callable[[int, Tensor], None],
    ) -> None:
        """Judge the validation losses after a step.

        Arguments:
            losses: of each replica and task.
            step: how many steps were taken.
            keep: called with the number of a criterion and the replicas that are better than ever.
        """
        by_task = dict(zip(self._tasks, losses.T.double().cpu(), strict=True))
        training = self.training
        for number, criterion in enumerate(self._values):
            value, least = criterion(by_task), self._least[number]
            # An improvement within rounding is none: a network that has converged must stop at the
            # same step on every machine.
            bound = torch.where(least.isfinite(), least - ROUNDING * least.abs(), least)
            better = (value < bound) & training
            self._least[number] = torch.where(better, value, least)
            self._waited[number] = torch.where(better, 0, self._waited[number] + 1)
            keep(number, better)
        if self._patience is not None and self.criteria:
            self.stopped_at[(self._waited >= self._patience).all(0) & training] = step
