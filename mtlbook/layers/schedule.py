"""Layers whose behaviour follows the training's progress, which is set from outside.

A layer that counted its own forward passes would count those that are no training step: several
calls in one step, activation checkpointing, gradient accumulation. Here the training tells the
layers where it is: `fit` before each of its steps, and `advance` in a loop of one's own.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mtlbook.errors import UsageError


class Scheduled(nn.Module):
    """A module that follows the training's progress.

    Attributes:
        progress: the part of the training that is done, from 0 at the first step towards 1; a
            buffer in the model's floating type.
    """

    progress: Float[Tensor, ""]

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("progress", torch.zeros(()))


class Stepped(nn.Module):
    """A module that follows the number of the training step.

    Attributes:
        step: the number of the present training step, from 1 on; 0 before the training. A buffer.
    """

    step: Int[Tensor, ""]

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("step", torch.zeros((), dtype=torch.long))


def advance(model: nn.Module, progress: float) -> None:
    """Tell a model's layers that a training step begins; for loops other than `fit`'s.

    Call it once before each step of the optimiser, however many forward passes the step has.

    Arguments:
        model: whose `Scheduled` modules get the progress, and whose `Stepped` ones the next step.
        progress: the part of the training that is done, `step / steps` with steps from 0 on.

    Raises:
        UsageError: for a progress that is not from 0 to 1.

    Example:
        >>> from mtlbook.layers.dropout import Dropout
        >>> model = nn.Sequential(nn.Linear(3, 2), Dropout(0.5))
        >>> for step in range(10):
        ...     advance(model, step / 10)
        >>> int(model[1].step)
        10
    """
    if not 0 <= progress <= 1:
        raise UsageError(f"Progress is the part of the training that is done, not {progress}.")
    for module in model.modules():
        if isinstance(module, Scheduled):
            module.progress.fill_(progress)
        if isinstance(module, Stepped):
            module.step.add_(1)
