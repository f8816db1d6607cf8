"""What the parts of a training are told of a step: its place in the training, and its batches."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jaxtyping import Float, Shaped
from torch import Tensor, nn

# A tensor, or several by name: tokens and their mask.
Inputs = Shaped[Tensor, "..."] | dict[str, Shaped[Tensor, "..."]]


class Batch(NamedTuple):
    """What a step learns from, of one stream.

    Attributes:
        inputs: one row an example.
        targets: for each task a row an example.
        labelled: 1 where an example carries a task's label and the step is about that task, else
            0; without an entry for a task whose label every example carries.
    """

    inputs: Inputs
    targets: dict[str, Tensor]
    labelled: dict[str, Tensor]


@dataclass(frozen=True)
class StepContext:
    """Where a step stands in the training, for objectives, penalties and what follows a step.

    Attributes:
        step: its number, from 0 on.
        steps: how many there are at most.
        tasks: the tasks whose losses the step is about.
        learning_rate: of this step (of the optimiser's first group of parameters).
        earlier: the model's parameters, by name, as they were when the present task's pass over its
            data began; at first, and where tasks have no passes of their own, the initial ones.
    """

    step: int
    steps: int
    tasks: tuple[str, ...]
    learning_rate: float
    earlier: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def progress(self) -> float:
        """The share of the training that is done, from 0 to below 1."""
        return self.step / self.steps


# What is added to the losses: computed from one replica's model and the step's context.
Penalty = Callable[[nn.Module, StepContext], Float[Tensor, ""]]


def each_tensor(function: Callable[[Tensor], Any], values: Any) -> Any:
    """The same batch, dictionary or list with a function of each of its tensors.

    PyTorch's `tree_map` does the same for any nesting, and takes a third of one seed's training.
    """
    if isinstance(values, Tensor):
        return function(values)
    if isinstance(values, dict):
        return {name: each_tensor(function, own) for name, own in values.items()}
    parts = [each_tensor(function, own) for own in values]
    return Batch(*parts) if isinstance(values, Batch) else type(values)(parts)
