r"""Section 7, the limit of all auxiliary tasks: behind a full-width linear trunk they do nothing.

With squared losses on the same rows, a linear trunk A of width r and linear heads B_t, the joint
optimum

    min Σ_t λ_t ‖Y_t − X A B_t‖²

is a reduced-rank regression (Izenman, 1975, theorem 1, here for weights λ_t): with B̂ the least
squares of all tasks and V the first r right singular vectors of X B̂ diag(√λ),

    A B = B̂ diag(√λ) V Vᵀ diag(√λ)⁻¹.

With r ≥ min(inputs, outputs) V Vᵀ changes nothing: each task has its own least squares, whatever
the others are and whatever they weigh. What an auxiliary task gives on these rows comes from a
bottleneck, from nonlinear units, from a penalty that couples the tasks, or from stopping early.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.errors import UsageError


def linear_trunk_optimum(
    inputs: Float[Tensor, "rows inputs"],
    targets: Mapping[str, Float[Tensor, "rows _"]],
    weights: Mapping[str, float],
    width: int,
) -> dict[str, Float[Tensor, "rows _"]]:
    """The joint optimum's predictions, each task's on the same rows.

    Arguments:
        inputs: X; a constant input is added.
        targets: Y_t by task.
        weights: λ_t > 0 by task.
        width: r, units of the trunk.

    Raises:
        UsageError: for a width below 1, or a weight that is not positive.

    Example:
        >>> x, y = torch.eye(4).double(), torch.arange(8.0).double().reshape(4, 2).square()
        >>> targets = {"main": y[:, :1], "extra": y[:, 1:]}
        >>> wide = linear_trunk_optimum(x, targets, {"main": 1.0, "extra": 9.0}, width=2)
        >>> torch.allclose(wide["main"], y[:, :1])
        True
        >>> narrow = linear_trunk_optimum(x, targets, {"main": 1.0, "extra": 9.0}, width=1)
        >>> torch.allclose(narrow["main"], y[:, :1])
        False
    """
    if width < 1 or not all(weights[task] > 0 for task in targets):
        raise UsageError(f"A width of at least 1 and weights above 0, not {width} and {weights}.")
    scale = torch.cat(
        [y.new_full((y.shape[1],), weights[task] ** 0.5) for task, y in targets.items()]
    )
    stacked = torch.cat(list(targets.values()), dim=1) * scale
    middle = stacked.mean(0)
    centred = inputs - inputs.mean(0)
    # The driver that copes with inputs of deficient rank.
    fitted = centred @ torch.linalg.lstsq(centred, stacked - middle, driver="gelsd").solution
    right = torch.linalg.svd(fitted, full_matrices=False).Vh[:width]
    joint = (fitted @ right.T @ right + middle) / scale
    parts = joint.split([y.shape[1] for y in targets.values()], dim=1)
    return dict(zip(targets, parts, strict=True))


def identity_gap(data: MultiTaskData, main: str, width: int | None = None) -> float:
    """How far auxiliary tasks move the main task's least squares behind a linear trunk.

    The largest difference between the predictions of the joint optimum and of the main task's own
    least squares, in standard deviations of the latter: 0 but for rounding at full width.

    Arguments:
        data: with all labels on the same rows; classes count as 0 or 1 each.
        main: the name of the main task.
        width: of the trunk; by default the least full one, min(inputs, outputs).

    Raises:
        UsageError: for a main task that the data do not have, inputs that are not one flat tensor,
            and rows that do not carry all labels.

    Example:
        >>> from mtlbook.data import embedded
        >>> from mtlbook.tasks import Task
        >>> diabetes = embedded.diabetes()
        >>> identity_gap(diabetes, diabetes.tasks[0].name) < 1e-9
        True
    """
    if main not in data.targets:
        raise UsageError(f"There is no task {main!r}: choose one of {sorted(data.targets)}.")
    if not isinstance(data.inputs, Tensor) or data.inputs.ndim != 2:
        raise UsageError("The identity is about linear models of one flat tensor of inputs.")
    if not all(bool(marks.all()) for marks in data.labelled.values()):
        raise UsageError(
            "The identity is about tasks on the same rows: take those that carry all labels, by "
            "`data.subset`."
        )
    targets = {
        task.name: (
            values.double()
            if values.is_floating_point()
            else F.one_hot(values.reshape(-1), task.outputs).double()
        )
        for task, values in ((task, data.targets[task.name]) for task in data.tasks)
    }
    inputs = data.inputs.double()
    outputs = sum(y.shape[1] for y in targets.values())
    full = min(inputs.shape[1], outputs)
    equal = dict.fromkeys(targets, 1.0)
    joint = linear_trunk_optimum(inputs, targets, equal, width or full)[main]
    own = linear_trunk_optimum(inputs, {main: targets[main]}, equal, targets[main].shape[1])[main]
    return float((joint - own).abs().max() / own.std())
