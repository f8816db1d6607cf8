"""Section 6.5's contestants: joint many-task models, their ablations and single networks.

Sentences are `tokens`, `(sentences, length, columns)`, and their `mask`; each task labels tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mtlbook.architectures.joint_many_task import JointManyTask, SuccessiveRegularisation
from mtlbook.book.experiments.networks import hard_sharing
from mtlbook.book.experiments.training import search
from mtlbook.book.page import Page
from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.layers.window import Window
from mtlbook.randomness import generator
from mtlbook.sharing.hard import HardSharing
from mtlbook.tasks import Task
from mtlbook.training.context import Batch, StepContext
from mtlbook.training.objective import Losses, Objective
from mtlbook.training.pool import Pool
from mtlbook.training.sampling import Passes, Plan, Turn

Sentences = Mapping[str, Tensor]


class Words(nn.Module):
    """The vector of a token: the sum of those of its columns.

    Arguments:
        known: numbers of tokens below this one.
        width: of a vector.
    """

    def __init__(self, known: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(known, width)

    def forward(
        self, tokens: Int[Tensor, "sentences length columns"]
    ) -> Float[Tensor, "sentences length width"]:
        """One vector a token."""
        return self.table(tokens).sum(-2)


class Tagger(nn.Module):
    """A linear layer from each position's states to its labels, which become axis 1.

    It starts at 0, as the softmax layers of Hashimoto et al. (2017) do.
    """

    def __init__(self, units: int, labels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(units, labels)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(
        self, states: Float[Tensor, "sentences length units"]
    ) -> Float[Tensor, "sentences labels length"]:
        """The scores of each label at each position."""
        return self.linear(states).movedim(-1, 1)


def many_tasks(
    data: MultiTaskData,
    seed: int,  # noqa: ARG001
    *,
    known: int,
    word: int = 16,
    units: int = 16,
    label: int = 8,
    labels: bool = True,
    shortcuts: bool = True,
    vertical: bool = True,
) -> JointManyTask:
    """Levels of windows of three positions, one for each task of the data, lowest first.

    Without vertical connections the level k is a stack of k windows of its own, so that each task
    keeps its depth and sees as many words.
    """
    upper = units * vertical + word * shortcuts + label * labels

    def stages() -> list[nn.Module]:
        depths = [1 if vertical else 1 + place for place in range(len(data.tasks))]
        widths = [word, *[upper] * (len(data.tasks) - 1)]
        return [
            Words(known, word),
            *(Window(width, units, depth) for width, depth in zip(widths, depths, strict=True)),
        ]

    heads = {task.name: Tagger(units, task.outputs) for task in data.tasks}
    counts = {task.name: task.outputs for task in data.tasks[:-1]} if labels else None
    return JointManyTask(
        stages, heads, labels=counts, width=label, shortcuts=shortcuts, vertical=vertical
    )


def of_pass(tasks: Sequence[Task]) -> Objective:
    """The loss of the task whose pass a step belongs to; levels above it are not computed."""
    by_name = {task.name: task for task in tasks}

    def compute(model: nn.Module, batches: Mapping[str, Batch], context: StepContext) -> Losses:
        (name,) = context.tasks
        (batch,) = batches.values()
        predicted = model(batch.inputs, name)[name]
        return {name: by_name[name].loss(predicted, batch.targets[name]).mean()}

    return Objective(tuple(by_name), compute)
