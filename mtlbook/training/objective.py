"""What a step minimises: the losses of every replica, by name, before they are combined."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from mtlbook.errors import UsageError
from mtlbook.tasks import Task
from mtlbook.training.context import Batch, Penalty, StepContext
from mtlbook.training.replicas import Replicas, State

Losses = Mapping[str, Float[Tensor, ""]]


@dataclass(frozen=True)
class Objective:
    """Losses by name, computed from one replica's model and a batch of each of the step's streams.

    Attributes:
        names: of the losses, which a combiner combines and the history tells of.
        compute: from the model, the batches by stream and the step's context to the losses; all
            replicas at once, by `torch.vmap`.

    Example:
        >>> def small_weights(model, batches, context):
        ...     return {"size": model.weight.square().sum()}
        >>> Objective(("size",), small_weights).names
        ('size',)
    """

    names: tuple[str, ...]
    compute: Callable[[nn.Module, Mapping[str, Batch], StepContext], Losses]


def task_losses(tasks: Sequence[Task], of_stream: Mapping[str, Sequence[str]]) -> Objective:
    """The default objective: the mean loss of each task over its labelled rows; 0 without any.

    The model is called once a step, on the rows of all streams.

    Arguments:
        tasks: those that are trained.
        of_stream: for each stream the tasks that learn from it.
    """
    by_name = {task.name: task for task in tasks}

    def compute(model: nn.Module, batches: Mapping[str, Batch], context: StepContext) -> Losses:  # noqa: ARG001
        inputs = [batch.inputs for batch in batches.values()]
        whole = inputs[0] if len(inputs) == 1 else tree_map(lambda *rows: torch.cat(rows), *inputs)
        predictions = model(whole)
        losses, start = {}, 0
        for stream, batch in batches.items():
            end = start + len(next(iter(batch.targets.values())))
            for name in of_stream[stream]:
                each = by_name[name].loss(predictions[name][start:end], batch.targets[name])
                known = batch.labelled.get(name)
                if known is None:
                    losses[name] = each.mean()
                else:
                    losses[name] = (each * known).sum() / known.sum().clamp(min=1)
            start = end
        return losses

    return Objective(tuple(by_name), compute)


class StepLosses:
    """The losses and the penalty of all replicas in a step.

    Arguments:
        replicas: whose models are called.
        objective: gives the losses.
        regulariser: gives the penalty; None for none.
    """

    def __init__(
        self, replicas: Replicas, objective: Objective, regulariser: Penalty | None
    ) -> None:
        self._replicas, self._objective, self._regulariser = replicas, objective, regulariser
        self.earlier: State = {}

    def begin_pass(self) -> None:
        """Note the parameters as they are now, for penalties on the distance from them."""
        if self._regulariser is not None:
            self.earlier = self._replicas.snapshot()

    def __call__(
        self, context: StepContext, batches: Mapping[str, Batch], state: State | None = None
    ) -> tuple[
        Float[Tensor, "replicas losses"],
        Float[Tensor, " replicas"] | None,
        Bool[Tensor, "replicas losses"],
    ]:
        """The losses, the penalty, and which losses the batches are about.

        Arguments:
            context: of the step.
            batches: by stream.
            state: other parameters and buffers than the present ones.

        Raises:
            UsageError: for an objective that computes losses which it does not name.
        """
        regulariser, compute = self._regulariser, self._objective.compute

        def one(
            model: nn.Module, batches: Mapping[str, Batch], earlier: State
        ) -> tuple[dict[str, Tensor], list[Tensor]]:
            losses = dict(compute(model, batches, context))
            if regulariser is None:
                return losses, []
            return losses, [regulariser(model, replace(context, earlier=earlier))]

        losses, penalties = self._replicas.map(one, state)(dict(batches), self.earlier)
        names = self._objective.names
        if losses.keys() - set(names):
            raise UsageError(
                f"The objective computes the losses {list(losses)}, and its names are "
                f"{list(names)}: name each of them."
            )
        penalty = penalties[0] if penalties else None
        if len(losses) == len(names) and not any(own.labelled for own in batches.values()):
            stacked = torch.stack([losses[name] for name in names], dim=1)
            return stacked, penalty, torch.ones_like(stacked, dtype=torch.bool)
        absent = torch.zeros_like(next(iter(losses.values())))
        about = [self._about(name, batches) if name in losses else absent.bool() for name in names]
        stacked = torch.stack([losses.get(name, absent) for name in names], dim=1)
        return stacked, penalty, torch.stack([own.expand(len(absent)) for own in about], dim=1)

    @staticmethod
    def _about(name: str, batches: Mapping[str, Batch]) -> Bool[Tensor, "..."]:
        """Whether any row of a step's batches carries a label of a loss's task."""
        known = [batch.labelled.get(name) for batch in batches.values()]
        marks = [(own > 0).any(-1) for own in known if own is not None]
        if len(marks) < len(known):
            like = next(iter(next(iter(batches.values())).targets.values()))
            return torch.ones(1, dtype=torch.bool, device=like.device)
        return torch.stack(marks).any(0)
