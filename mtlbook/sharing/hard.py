"""Section 3.1, hard parameter sharing: common hidden layers, one head a task (Caruana, 1993)."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy

from jaxtyping import Float
from torch import Tensor, nn

from mtlbook.errors import UsageError
from mtlbook.tasks import Task


def linear_head(width: int, task: Task) -> nn.Module:
    """A linear layer from the last hidden layer to a task's outputs."""
    return nn.Linear(width, task.outputs)


class HardSharing(nn.Module):
    """A trunk that all tasks share, and behind it a branch and a head for each task.

    ŷ_t = h_t(b_t(f(x))), with f shared and b_t, h_t the task's own (Caruana, 1997, section 2;
    Ruder, 2017, section 3.1). The stages in front of `branch_at` form f, those behind it are copied
    into a branch b_t for each task. The two ends of the dial are the two extremes of sharing:
    `branch_at=len(stages)` shares every hidden layer, `branch_at=0` gives separate networks.

    Arguments:
        stages: the hidden layers, from the input on: any modules of the user's.
        tasks: one branch and head each.
        width: features that the last stage gives to a head.
        branch_at: how many stages are shared; by default all.
        same_start: whether the branches start from equal weights (as soft sharing needs it) or each
            from its own; the latter calls `reset_parameters` of the copied layers.
        head: makes a task's head from the width and the task.

    Example:
        >>> import torch
        >>> tasks = [Task.regression("price"), Task.classification("kind", classes=3)]
        >>> stages = [nn.Linear(8, 16), nn.Tanh()]
        >>> model = HardSharing(stages, tasks, width=16)
        >>> {name: tuple(p.shape) for name, p in model(torch.ones(5, 8)).items()}
        {'price': (5, 1), 'kind': (5, 3)}
    """

    def __init__(
        self,
        stages: Sequence[nn.Module],
        tasks: Sequence[Task],
        width: int,
        branch_at: int | None = None,
        same_start: bool = False,
        head: Callable[[int, Task], nn.Module] = linear_head,
    ) -> None:
        super().__init__()
        shared = len(stages) if branch_at is None else branch_at
        if not 0 <= shared <= len(stages):
            raise UsageError(
                f"branch_at counts shared stages: choose 0 to {len(stages)}, not {shared}."
            )
        self.trunk = nn.Sequential(*stages[:shared])
        own = nn.Sequential(*stages[shared:])
        self.branches = nn.ModuleDict(
            {task.name: _copy(own, same_start or number == 0) for number, task in enumerate(tasks)}
        )
        self.heads = nn.ModuleDict({task.name: head(width, task) for task in tasks})

    def forward(self, inputs: Float[Tensor, "examples ..."]) -> Mapping[str, Float[Tensor, "..."]]:
        """Each task's prediction, `(examples, outputs, ...)`."""
        common = self.trunk(inputs)
        return {name: head(self.branches[name](common)) for name, head in self.heads.items()}


def separate_networks(
    stages: Sequence[nn.Module],
    tasks: Sequence[Task],
    width: int,
    same_start: bool = False,
    head: Callable[[int, Task], nn.Module] = linear_head,
) -> HardSharing:
    """A network for each task that shares nothing: hard sharing that branches at the input."""
    return HardSharing(stages, tasks, width, branch_at=0, same_start=same_start, head=head)


def _copy(stages: nn.Sequential, as_it_is: bool) -> nn.Sequential:
    copied = deepcopy(stages)
    if not as_it_is:
        for module in copied.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
    return copied
