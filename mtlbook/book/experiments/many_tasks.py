"""Section 6.5's contestants: joint many-task models, their ablations, and shuffled passes.

Sentences are `tokens`, `(sentences, length, columns)`, and their `mask`; each task labels tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from mtlbook.architectures.joint_many_task import JointManyTask
from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.layers.tagging import Masked, TagHead, Words
from mtlbook.layers.window import Window
from mtlbook.randomness import generator
from mtlbook.tasks import Task
from mtlbook.training.context import Batch, StepContext
from mtlbook.training.objective import Losses, Objective
from mtlbook.training.pool import Pool
from mtlbook.training.sampling import Passes, Plan, Turn

WORD, UNITS, LABEL = 16, 16, 8


def tag_head(units: int, task: Task) -> TagHead:
    """A head that starts at 0, as the softmax layers of Hashimoto et al. (2017) do."""
    head = TagHead(units, task.outputs)
    nn.init.zeros_(head.linear.weight)
    nn.init.zeros_(head.linear.bias)
    return head


def many_tasks(
    data: MultiTaskData,
    seed: int,  # noqa: ARG001
    *,
    vocabulary: int,
    labels: bool = True,
    shortcuts: bool = True,
    vertical: bool = True,
) -> JointManyTask:
    """Levels of windows of three positions, one for each task of the data, lowest first.

    Without vertical connections the level k is a stack of k windows of its own, so that each task
    keeps its depth and sees as many words.
    """
    upper = UNITS * vertical + WORD * shortcuts + LABEL * labels

    def stages() -> list[nn.Module]:
        encoders = [
            Masked(Window(upper if place else WORD, UNITS, 1 if vertical else 1 + place))
            for place in range(len(data.tasks))
        ]
        return [Words(vocabulary, WORD), *encoders]

    heads = {task.name: tag_head(UNITS, task) for task in data.tasks}
    counts = {task.name: task.outputs for task in data.tasks[:-1]} if labels else None
    return JointManyTask(
        stages, heads, labels=counts, width=LABEL, shortcuts=shortcuts, vertical=vertical
    )


def of_pass(tasks: Sequence[Task]) -> Objective:
    """The loss of the task whose pass a step belongs to; levels above it are not computed."""
    by_name = {task.name: task for task in tasks}

    def compute(model: nn.Module, batches: Mapping[str, Batch], context: StepContext) -> Losses:
        (name,), (batch,) = context.tasks, batches.values()
        predicted = model(batch.inputs, name)[name]
        return {name: by_name[name].loss(predicted, batch.targets[name]).mean()}

    return Objective(tuple(by_name), compute)


@dataclass(frozen=True)
class ShuffledPasses(Passes):
    """A whole pass over one task's rows after another's, in a new random order each round.

    Seeds that train together see one sequence of orders, drawn for the first of them.

    Attributes:
        rounds: how many orders are drawn; behind them the first comes again.
    """

    rounds: int = 100

    def plan(self, pool: Pool, seeds: Sequence[int]) -> Plan:
        """A stream a task; each round is as long as one of `Passes`."""
        plan = super().plan(pool, seeds)
        names = list(plan.streams)
        lengths = [len(pool.labelled_rows(n)[0]) // plan.streams[n].size for n in names]
        source = generator(seeds[0], "order of passes")
        turns = []
        for _ in range(self.rounds):
            for place in torch.randperm(len(names), generator=source).tolist():
                own = (names[place],)
                turns += [Turn(own, begins=step == 0) for step in range(lengths[place])]
        return Plan(plan.streams, lambda step: turns[step % len(turns)])
