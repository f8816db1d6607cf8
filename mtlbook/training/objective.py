"""What a step minimises: the losses of one replica, by name, before they are combined."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from mtlbook.tasks import Task
from mtlbook.training.context import Batch, StepContext

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


def mean_losses(tasks: Sequence[Task], predictions: Mapping[str, Tensor], batch: Batch) -> Losses:
    """Each task's mean loss over the rows that carry its label; 0 where no row does."""
    losses = {}
    for task in tasks:
        each = task.loss(predictions[task.name], batch.targets[task.name])
        known = batch.labelled.get(task.name)
        if known is None:
            losses[task.name] = each.mean()
        else:
            losses[task.name] = (each * known).sum() / known.sum().clamp(min=1)
    return losses


def task_losses(tasks: Sequence[Task], of_stream: Mapping[str, Sequence[str]]) -> Objective:
    """The default objective: the mean loss of each task over its labelled rows.

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
            served = [by_name[name] for name in of_stream[stream]]
            own = {task.name: predictions[task.name][start:end] for task in served}
            losses |= mean_losses(served, own, batch)
            start = end
        return losses

    return Objective(tuple(by_name), compute)
