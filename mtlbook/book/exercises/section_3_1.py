"""The exercises of section 3.1, hard parameter sharing."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mtlbook.book.exercises import DIRECTIONS, WrongAnswer, exercise, prediction


def trainable_parameters(inputs: int, width: int, tasks: int) -> tuple[int, int]:
    """Of one network with a hidden layer and a head for each task, and of one network a task."""
    trunk = (inputs + 1) * width
    head = width + 1
    return trunk + tasks * head, tasks * (trunk + head)


def floor_and_slope(tasks: Sequence[int], errors: Sequence[float]) -> tuple[float, float]:
    """The a and b of a + b/N by least squares."""
    slope, floor = np.polyfit(1 / np.asarray(tasks, dtype=float), np.asarray(errors), 1)
    return float(floor), float(slope)


def common_slope(
    x: Float[Tensor, "rows inputs"], y: Float[Tensor, " rows"], owner: Int[Tensor, " rows"]
) -> Float[Tensor, " inputs"]:
    """The slope of least squares on [x, e_t], from each data set's deviations from its mean."""
    inputs, targets = x.clone(), y.clone()
    for task in owner.unique():
        own = owner == task
        inputs[own] -= x[own].mean(0)
        targets[own] -= y[own].mean()
    return torch.linalg.lstsq(inputs, targets.unsqueeze(1)).solution[:, 0]


@exercise(
    "3.1.a",
    "Count the trainable parameters of a network with one hidden layer that several regressions "
    "share, and of a separate network for each.",
    reference=trainable_parameters,
    hints=(
        "A linear layer from m to n units has (m + 1) · n parameters.",
        "How many trunks and how many heads are there in each case?",
    ),
)
def _check_trainable_parameters(answer: Callable[[int, int, int], tuple[int, int]]) -> None:
    shared, separate = answer(20, 8, 16)
    if shared == 20 * 8 + 16 * 8:
        raise WrongAnswer("every layer has biases, too: one for each of its outputs")
    if shared == 20 * 8 + 8 + 8 + 1:
        raise WrongAnswer("the trunk is shared, but each task has a head of its own")
    if (separate, shared) == trainable_parameters(20, 8, 16):
        raise WrongAnswer("return the shared network's count first, then the separate ones' sum")
    if shared != trainable_parameters(20, 8, 16)[0]:
        raise WrongAnswer("the trunk has (inputs + 1) · width numbers, each head width + 1")
    if separate == shared:
        raise WrongAnswer("separate networks share nothing: each has a trunk of its own")
    for sizes in ((20, 8, 16), (64, 32, 3), (5, 4, 1)):
        if tuple(answer(*sizes)) != trainable_parameters(*sizes):
            raise WrongAnswer(
                f"for inputs, width, tasks = {sizes} the counts are {trainable_parameters(*sizes)}"
            )


@exercise(
    "3.1.b",
    "From the excess errors at several numbers of tasks N, estimate a and b of a + b/N by least "
    "squares.",
    reference=floor_and_slope,
    hints=("The error is linear in something, but not in N.", "Fit a line through (1/N, error)."),
)
def _check_floor_and_slope(
    answer: Callable[[Sequence[int], Sequence[float]], tuple[float, float]],
) -> None:
    tasks = [1, 2, 4, 8]
    floor, slope = answer(tasks, [0.1 + 0.4 / n for n in tasks])
    if abs(floor - 0.4) < 1e-6 and abs(slope - 0.1) < 1e-6:
        raise WrongAnswer("a is what is left with endless tasks, b what their number divides")
    if abs(floor - 0.1) > 1e-6 or abs(slope - 0.4) > 1e-6:
        raise WrongAnswer(
            "errors that lie exactly on 0.1 + 0.4/N must give a = 0.1 and b = 0.4: the error is "
            "linear in 1/N, not in N"
        )
    noisy = [0.55, 0.29, 0.22, 0.13]
    if not np.allclose(answer(tasks, noisy), floor_and_slope(tasks, noisy), atol=1e-6):
        raise WrongAnswer("use all points: where they lie on no line, least squares decides")


@exercise(
    "3.1.c",
    "Find the slope that least squares on [x, e_t] finds, without any code: from inputs and "
    "targets alone, and the number of the data set that each row belongs to.",
    reference=common_slope,
    hints=(
        "What does an intercept do to the mean of its data set's residuals?",
        "Then residuals have mean 0 in each data set: which shift of x and y does that allow?",
    ),
)
def _check_common_slope(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    draws = torch.Generator().manual_seed(0)
    owner = torch.arange(3).repeat_interleave(torch.tensor([10, 20, 30]))
    x = torch.randn(60, 2, generator=draws, dtype=torch.float64) + owner.unsqueeze(1)
    noise = torch.randn(60, generator=draws, dtype=torch.float64)
    y = x @ torch.tensor([1.0, -2.0], dtype=torch.float64) + 5.0 * owner + noise
    found = answer(x, y, owner)
    if found.numel() != 2:
        raise WrongAnswer(f"one number for each of the 2 inputs, not {found.numel()}")
    codes = torch.nn.functional.one_hot(owner).to(x)
    wanted = torch.linalg.lstsq(torch.cat([x, codes], dim=1), y[:, None]).solution[:2, 0]
    whole = torch.linalg.lstsq(x - x.mean(0), (y - y.mean())[:, None]).solution[:, 0]
    if torch.allclose(found.flatten(), whole, atol=1e-6):
        raise WrongAnswer("that is pooling without codes: each data set has a mean of its own")
    if not torch.allclose(found.flatten(), wanted, atol=1e-6):
        raise WrongAnswer(
            "an intercept for each data set takes up that data set's means: subtract them from "
            "its inputs and its targets, then fit a line through the origin"
        )


prediction(
    "3.1.d",
    "Sixteen tasks without common features share a trunk of 8 units, which is widened to 64. What "
    "happens to the error of tasks 1 and 2?",
    choices=DIRECTIONS,
    answer="falls",
    because="Sixteen tasks with four features each need 64 features, and 8 units hold but a few: "
    "the tasks compete for them. In the wide trunk each finds units of its own, and the error "
    "returns to about that of two tasks.",
    hints=(
        "How many features do sixteen such tasks need in all?",
        "What can a head do whose features are not in the trunk?",
    ),
)
