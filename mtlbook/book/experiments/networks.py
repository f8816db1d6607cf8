"""The small networks of the book's experiments: stages of dense layers, a linear head a task."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from itertools import pairwise

from torch import nn

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.sharing.hard import HardSharing
from mtlbook.tasks import Task

Stages = Callable[[], Sequence[nn.Module]]


def dense(inputs: int, *widths: int, activation: Callable[[], nn.Module] = nn.Tanh) -> Stages:
    """A function that makes hidden layers of the given widths, one stage a layer.

    Example:
        >>> dense(20, 8, 4)()
        [Sequential(
          (0): Linear(in_features=20, out_features=8, bias=True)
          (1): Tanh()
        ), Sequential(
          (0): Linear(in_features=8, out_features=4, bias=True)
          (1): Tanh()
        )]
    """
    sizes = list(pairwise((inputs, *widths)))
    return lambda: [nn.Sequential(nn.Linear(i, o), activation()) for i, o in sizes]


def linear_head(width: int, task: Task) -> nn.Module:
    """A linear layer from the last hidden layer to a task's outputs."""
    return nn.Linear(width, task.outputs)


def hard_sharing(
    stages: Stages,
    tasks: Sequence[Task],
    width: int,
    *,
    branch_at: int | None = None,
    same_start: bool = False,
    head: Callable[[int, Task], nn.Module] = linear_head,
) -> HardSharing:
    """A trunk of stages that all tasks share, behind it a branch and a head for each task.

    Arguments:
        stages: makes the hidden layers, from the input on.
        tasks: one branch and head each.
        width: features that the last stage gives to a head.
        branch_at: how many stages are shared, by default all; 0 gives separate networks.
        same_start: whether the branches start from equal weights.
        head: makes a task's head from the width and the task.

    Example:
        >>> tasks = [Task.regression("price"), Task.classification("kind", classes=3)]
        >>> sorted(hard_sharing(dense(8, 16), tasks, 16).heads)
        ['kind', 'price']
    """
    # The stages are made before the heads: their initial weights are the generator's first draws.
    first = list(stages())
    shared = len(first) if branch_at is None else branch_at
    made = [first]
    if shared < len(first) and not same_start:
        made += [[*first[:shared], *_drawn_anew(first[shared:])] for _ in tasks[1:]]
    heads = {task.name: head(width, task) for task in tasks}
    calls = iter(made)
    return HardSharing(lambda: next(calls), heads, branch_at=branch_at, same_start=same_start)


def _drawn_anew(stages: Sequence[nn.Module]) -> Iterator[nn.Module]:
    """Copies of stages with initial weights of their own; what is shared is not drawn again."""
    for stage in stages:
        copy = deepcopy(stage)
        for layer in copy.modules():
            reset = getattr(layer, "reset_parameters", None)
            if callable(reset):
                reset()
        yield copy


def separate_networks(
    stages: Stages,
    tasks: Sequence[Task],
    width: int,
    *,
    same_start: bool = False,
    head: Callable[[int, Task], nn.Module] = linear_head,
) -> HardSharing:
    """A network for each task that shares nothing: hard sharing that branches at the input."""
    return hard_sharing(stages, tasks, width, branch_at=0, same_start=same_start, head=head)


def mlp(
    data: MultiTaskData,
    seed: int,  # noqa: ARG001
    *,
    width: int = 16,
    depth: int = 1,
    branch_at: int | None = None,
    activation: Callable[[], nn.Module] = nn.Tanh,
) -> HardSharing:
    """A multi-layer perceptron for the data's tasks: a `build` for `train`, `search` and `tuned`.

    Arguments:
        data: a seed's data, with the tasks that are trained.
        seed: what every `build` is given, too.
        width: units of each hidden layer.
        depth: how many hidden layers; 0 gives linear models.
        branch_at: how many of them are shared, by default all; 0 gives separate networks.
        activation: behind each hidden layer.
    """
    inputs = data.inputs.shape[1]
    stages = dense(inputs, *[width] * depth, activation=activation)
    return hard_sharing(stages, data.tasks, width if depth else inputs, branch_at=branch_at)
