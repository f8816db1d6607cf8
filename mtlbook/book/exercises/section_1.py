"""The exercises of section 1, from one task to many."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.book.exercises import DIRECTIONS, WrongAnswer, exercise, prediction


def joint_loss(losses: Float[Tensor, " tasks"], weights: Float[Tensor, " tasks"]) -> Tensor:
    """L = Σ_t w_t L_t."""
    return (weights * losses).sum()


def equalising_weights(scales: Sequence[float]) -> list[float]:
    """w_t = 1 / s_t, so that every weighted loss has scale 1."""
    return [1 / scale for scale in scales]


def updates(steps: int, tasks: int, alternating: bool) -> tuple[int, int]:
    """How often each head, and how often the shared layer, is updated."""
    return (steps // tasks if alternating else steps), steps


@exercise(
    "1.a",
    "Write the joint loss of several tasks, given the vectors of their losses and weights.",
    reference=joint_loss,
    hints=("It is one number: what an optimiser can minimise.", "Weigh each loss, then add up."),
)
def _check_joint_loss(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    losses = torch.tensor([2.0, 3.0, 5.0], requires_grad=True)
    weights = torch.tensor([1.0, 0.5, 0.1])
    found = answer(losses, weights)
    if not isinstance(found, Tensor) or found.ndim:
        raise WrongAnswer("an optimiser minimises one number: return a tensor without an axis")
    if found.grad_fn is None:
        raise WrongAnswer("the gradient must flow through: use operations of tensors throughout")
    if float(found.detach()) == 10.0:
        raise WrongAnswer("that is the plain sum: each loss has a weight")
    if abs(float(found.detach()) * 1.6 - 4.0) < 1e-5:
        raise WrongAnswer("do not divide by the sum of the weights: L is the sum of w_t L_t itself")
    if abs(float(found.detach()) * 3 - 4.0) < 1e-5:
        raise WrongAnswer("that is the mean over the tasks; the joint loss is the sum")
    if abs(float(found.detach()) - 4.0) > 1e-5:
        raise WrongAnswer("multiply each loss by its weight, and add up")
    (gradient,) = torch.autograd.grad(found, losses)
    if not torch.allclose(gradient, weights):
        raise WrongAnswer("the number is right, but its slope along each loss must be its weight")


@exercise(
    "1.b",
    "Given the scale of each task's loss, find weights under which each weighted loss has scale 1.",
    reference=equalising_weights,
    hints=("One weight for each task, and none depends on another.", "What times 8 gives 1?"),
)
def _check_equalising_weights(answer: Callable[[Sequence[float]], Sequence[float]]) -> None:
    for scales in ([0.5, 8.0], [1.0, 125.0, 0.02]):
        found = [float(weight) for weight in answer(scales)]
        if len(found) != len(scales):
            raise WrongAnswer(f"{len(scales)} losses need {len(scales)} weights")
        weighted = [weight * scale for weight, scale in zip(found, scales, strict=True)]
        if max(weighted) - min(weighted) > 1e-6 * max(map(abs, weighted)):
            raise WrongAnswer(
                f"the scales {scales} become {[float(f'{one:.3g}') for one in weighted]}: not equal"
            )
        if abs(weighted[0] - 1) > 1e-6:
            raise WrongAnswer(
                f"the weighted losses have equal scales, but {weighted[0]:.3g}, not 1"
            )


@exercise(
    "1.c",
    "Count the updates of each head and of the shared layer in a number of optimiser steps.",
    reference=updates,
    hints=(
        "A joint step updates all heads and the shared layer.",
        "In turns, a step updates one head. Which steps reach the shared layer?",
    ),
)
def _check_updates(answer: Callable[[int, int, bool], tuple[int, int]]) -> None:
    head, shared = answer(300, 2, False)
    if (head, shared) != (300, 300):
        raise WrongAnswer(
            "a joint step updates every head and the shared layer once: 300 steps are (300, 300), "
            f"not {(head, shared)}"
        )
    head, shared = answer(600, 2, True)
    if head != 300:
        raise WrongAnswer("when two tasks take turns in 600 steps, each head has 300 of them")
    if shared != 600:
        raise WrongAnswer(
            "the shared layer learns from every task's turn: 600 updates in 600 steps"
        )
    if tuple(answer(600, 3, True)) != (200, 600):
        raise WrongAnswer("your count holds for two tasks, but not for three")


prediction(
    "1.d",
    "Keep the plain sum, and let the value's loss grow a hundredfold because its units change. "
    "What happens to the label's test loss?",
    choices=DIRECTIONS,
    answer="rises",
    because="The shared layer receives the sum of both gradients. The value's is now a hundred "
    "times longer, so the layer learns the value's features, and the label has to make do with "
    "them: its head still learns, but on a representation that another task has shaped.",
    hints=(
        "Nothing in the label's own data or loss has changed. What does it share?",
        "Where does the sum of two gradients point when one of them is a hundred times longer?",
    ),
)
