"""The exercises of section 1, from one task to many."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.book.exercises import WrongAnswer, exercise


def joint_loss(losses: Float[Tensor, " tasks"], weights: Float[Tensor, " tasks"]) -> Tensor:
    """L = Σ_t w_t L_t."""
    return (weights * losses).sum()


def even_weights(initial_losses: Sequence[float]) -> list[float]:
    """w_t = 1 / L_t(0), so that every weighted loss starts at 1."""
    return [1 / loss for loss in initial_losses]


def updates(steps: int, tasks: int, alternating: bool) -> tuple[int, int]:
    """How often each head, and how often the shared layer, is updated."""
    return (steps // tasks if alternating else steps), steps


@exercise(
    "1.a",
    "Write the joint loss of several tasks, given the vectors of their losses and weights.",
    reference=joint_loss,
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
    "Given each task's loss before training, find weights under which every weighted loss starts "
    "at 1.",
    reference=even_weights,
)
def _check_even_weights(answer: Callable[[Sequence[float]], Sequence[float]]) -> None:
    for initial in ([0.5, 8.0], [1.0, 125.0, 0.02]):
        found = [float(weight) for weight in answer(initial)]
        if len(found) != len(initial):
            raise WrongAnswer(f"{len(initial)} losses need {len(initial)} weights")
        weighted = [weight * loss for weight, loss in zip(found, initial, strict=True)]
        if max(weighted) - min(weighted) > 1e-6 * max(map(abs, weighted)):
            raise WrongAnswer(
                f"initial losses {initial} become {[float(f'{one:.3g}') for one in weighted]}: "
                "not even"
            )
        if abs(weighted[0] - 1) > 1e-6:
            raise WrongAnswer(f"the weighted losses are even but start at {weighted[0]:.3g}, not 1")


@exercise(
    "1.c",
    "Count the updates of each head and of the shared layer in a number of optimiser steps.",
    reference=updates,
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
