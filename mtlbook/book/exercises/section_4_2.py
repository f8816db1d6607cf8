"""Exercises of section 4.2, attention focusing."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.book.exercises import DIRECTIONS, WrongAnswer, exercise, prediction
from mtlbook.sharing.input_lasso import InputLasso


def input_gradient(
    weight: Float[Tensor, "hidden inputs"],
    bias: Float[Tensor, " hidden"],
    head: Float[Tensor, " hidden"],
    x: Float[Tensor, " inputs"],
) -> Float[Tensor, " inputs"]:
    """The chain rule: the head, the slope of each hidden unit, the first layer."""
    slope = 1 - torch.tanh(weight @ x + bias) ** 2
    return (head * slope) @ weight


@exercise(
    "4.2.a",
    "Write the input gradient of a network with one hidden layer of tanh units at one input.",
    reference=input_gradient,
    hints=(
        "The derivative of tanh(u) is 1 − tanh²(u).",
        "Each hidden unit contributes its head weight, times its slope, times its row of W.",
    ),
)
def check_input_gradient(answer: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    """Accept what automatic differentiation gives, at a place where the units are curved."""
    weight = torch.linspace(-1.5, 2, 12, dtype=torch.float64).view(4, 3).sin()
    bias, head = torch.tensor([[0.3, -0.2, 0.5, 0.0], [1.0, -2.0, 0.5, 3.0]], dtype=torch.float64)
    x = torch.tensor([0.7, -1.1, 0.4], dtype=torch.float64)
    expected = torch.func.grad(lambda x: head @ torch.tanh(weight @ x + bias))(x)
    given = answer(weight, bias, head, x)
    if tuple(given.shape) != (3,):
        raise WrongAnswer("the gradient has a number for each of the 3 inputs")
    if torch.allclose(given, head @ weight):
        raise WrongAnswer(
            "that is the gradient of a linear network: the tanh bends, so that each "
            "hidden unit has a slope of its own at x"
        )
    if not torch.allclose(given, expected):
        raise WrongAnswer(
            "multiply, for each hidden unit, its weight in the head by its slope, 1 − tanh² of "
            "what comes in (with the bias), and sum its weights over the units"
        )


def shortened(
    weight: Float[Tensor, "hidden inputs"], amount: float
) -> Float[Tensor, "hidden inputs"]:
    """Each column times 1 − amount / length, or times 0 where that is negative."""
    length = weight.norm(dim=0).clamp(min=1e-12)
    return weight * (1 - amount / length).clamp(min=0)


@exercise(
    "4.2.b",
    "Write the proximal map of the lasso over inputs for a first layer's weights.",
    reference=shortened,
    hints=(
        "Multiply each column by a number between 0 and 1.",
        "The number is 1 − amount / length, or 0 where that is negative.",
    ),
)
def check_shortened(answer: Callable[[Tensor, float], Tensor]) -> None:
    """Accept columns that are shortened, or 0, among them one that is 0 already."""
    weight = torch.tensor([[3.0, 0.3, 0.0, -1.0], [4.0, 0.4, 0.0, 1.0]], dtype=torch.float64)
    new = answer(weight.clone(), 1.0)
    if new.shape != weight.shape:
        raise WrongAnswer("the result has the shape of the weights")
    if not torch.isfinite(new).all():
        raise WrongAnswer("an input that is switched off already has length 0: don't divide by it")
    if new[:, 1].any():
        raise WrongAnswer("a column that is shorter than the amount becomes 0 as a whole")
    if not torch.allclose(new, InputLasso.shrink(weight, 1.0)):
        raise WrongAnswer(
            "each column keeps its direction and loses the amount from its length: the hidden "
            "units of an input are one group, not shrunk one by one"
        )


def tasks_needed(examples: float) -> float:
    """An input stands out by √(K/2) n r²/v standard deviations: √K · 50 must equal n."""
    return (examples / 50) ** 2


@exercise(
    "4.2.c",
    "How many tasks with 50 examples each sort the inputs as well as one task with `examples`?",
    reference=tasks_needed,
    hints=("By how many standard deviations does a relevant input stand out in S_j?",),
)
def check_tasks_needed(answer: Callable[[float], float]) -> None:
    """Accept the square of the ratio."""
    if abs(answer(50.0) - 1) > 1e-9:
        raise WrongAnswer("with 50 examples there is nothing to make up for: one task is enough")
    if abs(answer(100.0) - 2) < 1e-9:
        raise WrongAnswer(
            "tasks are not worth as much as examples: the noise of the sum of squares grows with "
            "their number, too"
        )
    if not all(abs(answer(n) - (n / 50) ** 2) < 1e-6 for n in (100.0, 200.0, 500.0)):
        raise WrongAnswer(
            "K tasks with n examples stand out by √(K/2) · n r²/v standard deviations: for which K "
            "and n = 50 is that as much as one task's?"
        )


prediction(
    "4.2.d",
    "More tasks use the same inputs, from 1 to 16, with 30 examples. What happens to the share of "
    "relevant inputs among the four with most evidence?",
    choices=DIRECTIONS,
    answer="rises",
    because="Every task's squared covariances add to the evidence for the same inputs, while what "
    "fits one task's labels by chance is another input for each. Copies of one task would leave "
    "the share where it is: all their sums of squares are multiples of the same one.",
    hints=("What do the squares of a relevant input and of an irrelevant one add up to?",),
)
