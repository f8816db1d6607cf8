r"""Synthetic data sets: data of a known truth, and the steps that their generators share.

A generator *draws* inputs and weights, each by a purpose of its own, *scales* the signals to
variance 1, adds *noise*, and *wraps* inputs and targets into multi-task data. Everything is float64
on the CPU; a further task leaves the earlier ones as they were.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import sqrt

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.randomness import generator, standard_normal
from mtlbook.tasks import Task

# Standard deviation of what enters a tanh: it bends there and is not yet a step.
GAIN = 2.0
# Inputs that no learner sees, from which a signal's standard deviation is estimated.
REFERENCE_ROWS = 10_000


@dataclass(frozen=True, eq=False)
class SyntheticDataset:
    """Synthetic data together with the truth behind it; what a generator does not have is empty.

    Attributes:
        data: what a learner sees.
        noiseless: for each task the target without noise, on the rows that carry its label.
        features: for each task the matrix that turns an input into features.
        heads: for each task the weights that turn features, or where there are none inputs, into
            its (unscaled) signal.
        relevant: for each task the inputs that its target depends on.
        least_loss: for each task the expected loss of the best possible prediction: the variance of
            the noise, in the target's unit, or the mean entropy of the label given the input, in
            nats.
    """

    data: MultiTaskData
    noiseless: dict[str, Shaped[Tensor, "labelled ..."]] = field(default_factory=dict)
    features: dict[str, Float[Tensor, "inputs features"]] = field(default_factory=dict)
    heads: dict[str, Float[Tensor, "features *outputs"]] = field(default_factory=dict)
    relevant: dict[str, Bool[Tensor, " inputs"]] = field(default_factory=dict)
    least_loss: dict[str, float] = field(default_factory=dict)

    @property
    def relevant_to_any(self) -> Bool[Tensor, " inputs"]:
        """The inputs that at least one task's target depends on."""
        return torch.stack(list(self.relevant.values())).any(0)

    @property
    def coefficients(self) -> Float[Tensor, "inputs tasks"]:
        """The weights of linear tasks on the inputs, a column a task."""
        return torch.stack(list(self.heads.values()), dim=1)

    @property
    def inputs_by_task(self) -> Float[Tensor, "tasks rows inputs"]:
        """The inputs of each task's labelled rows, equally many."""
        return torch.stack([self.data.inputs[marks] for marks in self.data.labelled.values()])

    @property
    def targets(self) -> Float[Tensor, "rows tasks"]:
        """The targets of regressions, a column a task, on each task's labelled rows."""
        own = [self.data.targets[name][marks] for name, marks in self.data.labelled.items()]
        return torch.cat(own, dim=1)

    @property
    def signals(self) -> Float[Tensor, "rows tasks"]:
        """The targets of regressions without noise, a column a task."""
        return torch.cat(list(self.noiseless.values()), dim=1)

    @property
    def noise(self) -> Float[Tensor, "rows tasks"]:
        """What noise adds to the targets of regressions."""
        return self.targets - self.signals

    def together(self, tasks: int) -> MultiTaskData:
        """The first regressions as the outputs of one, `together`.

        A network with an output for each task is hard parameter sharing with linear heads, and its
        loss, the mean over the outputs, is that of the tasks with equal weights. Trained as one
        matrix product it takes a fraction of the time.

        Raises:
            UsageError: for no task, or more than there are.
        """
        if not 1 <= tasks <= len(self.data.tasks):
            raise UsageError(f"There are {len(self.data.tasks)} tasks: ask for 1 to all of them.")
        every = Task.regression("together", outputs=tasks)
        targets = {every.name: self.targets[:, :tasks]}
        return MultiTaskData.multi_label([every], self.data.inputs, targets)

    def alone(self, task: int) -> MultiTaskData:
        """One regression, counted from 0, as the only one, `alone`."""
        own = Task.regression("alone")
        targets = {own.name: self.targets[:, [task]]}
        return MultiTaskData.multi_label([own], self.data.inputs, targets)


# Draw ------------------------------------------------------------------------------------------


def normal(source: torch.Generator, rows: int, columns: int) -> Float[Tensor, "rows columns"]:
    """Standard normal numbers in float64; the numbers of few rows are not the first of more."""
    return torch.randn(rows, columns, generator=source, dtype=torch.float64)


def mixed(
    share: float, common: Float[Tensor, "*shape"], own: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """√share · common + √(1 − share) · own: unit variance, correlation `share` between tasks."""
    return sqrt(share) * common + sqrt(1 - share) * own


def reference_inputs(
    seed: int, columns: int, *purpose: str, rows: int = REFERENCE_ROWS
) -> Float[Tensor, "rows columns"]:
    """Standard normal inputs of a seed for the scale of signals."""
    return standard_normal(generator(seed, *purpose, "reference inputs"), rows, columns)


def hidden(
    x: Float[Tensor, "rows inputs"], matrix: Float[Tensor, "inputs features"]
) -> Float[Tensor, "rows features"]:
    """The features tanh(x B)."""
    return torch.tanh(x @ matrix)


def raw_signal(
    x: Float[Tensor, "rows inputs"],
    matrix: Float[Tensor, "inputs features"],
    head: Float[Tensor, "features *outputs"],
) -> Float[Tensor, "rows *outputs"]:
    """tanh(x B) a, not yet scaled."""
    return hidden(x, matrix) @ head


# Scale -----------------------------------------------------------------------------------------


def unit_variance(
    signal: Callable[[Tensor], Float[Tensor, "..."]],
    x: Float[Tensor, "rows inputs"],
    reference: Float[Tensor, "reference inputs"],
) -> Float[Tensor, "rows outputs"]:
    """A signal at x, each output with the variance 1 over the reference inputs.

    Example:
        >>> x = torch.tensor([[1.0], [2.0]])
        >>> unit_variance(lambda x: 5 * x, x, torch.tensor([[-1.0], [0.0], [1.0]]))
        tensor([[1.],
                [2.]])
    """
    scaled = signal(x) / signal(reference).std(0)
    return scaled[:, None] if scaled.ndim == 1 else scaled


# Noise -----------------------------------------------------------------------------------------


def with_noise(
    signal: Float[Tensor, "*shape"], noise: float, source: torch.Generator
) -> Float[Tensor, "*shape"]:
    """The signal plus σ ε with ε ~ N(0, 1), of which fewer rows are the first rows of more."""
    return signal + noise * standard_normal(source, *signal.shape)


# Wrap ------------------------------------------------------------------------------------------


def regressions(
    inputs: Float[Tensor, "rows inputs"] | Mapping[str, Float[Tensor, "rows inputs"]],
    targets: Mapping[str, Float[Tensor, "rows 1"]],
) -> MultiTaskData:
    """A regression for each target, on inputs that all share or on those of its own name."""
    tasks = [Task.regression(name) for name in targets]
    if isinstance(inputs, Tensor):
        return MultiTaskData.multi_label(tasks, inputs, targets)
    return MultiTaskData.several({task: (inputs[task.name], targets[task.name]) for task in tasks})


# Check -----------------------------------------------------------------------------------------


def check_counts(least: int = 1, **counts: int) -> None:
    """Refuse a count below the least one, by its name."""
    for name, count in counts.items():
        if count < least:
            raise UsageError(f"{name} must be at least {least}, not {count}.")


def check_shares(**shares: float) -> None:
    """Refuse a share that does not lie between 0 and 1, by its name."""
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise UsageError(f"{name} is a share: it must lie between 0 and 1, not at {share}.")


def check_noise(noise: float) -> None:
    """Refuse a standard deviation that is no number, or below 0."""
    if not 0 <= noise < float("inf"):
        raise UsageError(f"noise must be a number of at least 0, not {noise}.")


def shared_count(overlap: float, of: int, what: str) -> int:
    """How many of a task's `of` inputs are those of all tasks, for a share that is a multiple."""
    shared = round(overlap * of)
    if not (0 <= overlap <= 1 and abs(shared - overlap * of) < 1e-6):
        raise UsageError(
            f"overlap is the share of a task's {of} {what} that all tasks use: it must be a "
            f"multiple of 1/{of} between 0 and 1, not {overlap}."
        )
    return shared
