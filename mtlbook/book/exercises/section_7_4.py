"""Exercises of section 7.4, focusing attention."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtlbook.book.exercises import DIRECTIONS, WrongAnswer, exercise, prediction


def share_on_area(
    model: nn.Module, inputs: Float[Tensor, "examples inputs"], area: list[int]
) -> float:
    """The share of the squared input gradients of a model's one output on some of the inputs."""
    x = inputs.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x).sum(), x)
    squared = gradient.square().sum(0)
    return float(squared[area].sum() / squared.sum())


@exercise(
    "7.4.a",
    "Write S_A for a model with one output: the share of the squared input gradients, summed over "
    "all examples, that lies on the inputs whose numbers are in the list area.",
    reference=share_on_area,
    hints=(
        "The outputs' sum has as gradient on a row of the inputs that row's own gradient.",
        "Square, sum over the examples, and only then divide.",
    ),
)
def check_share_on_area(
    answer: Callable[[nn.Module, Tensor, list[int]], float | Tensor],
) -> None:
    """Accept the share for a linear model and for one whose gradients differ by example."""
    weights = torch.tensor([[3.0, -1.0, 2.0]], dtype=torch.float64)
    linear = nn.Linear(3, 1, bias=False).double()
    linear.weight = nn.Parameter(weights)
    inputs = torch.tensor([[1.0, 2.0, -1.0], [0.5, -1.0, 4.0]], dtype=torch.float64)
    found = float(answer(linear, inputs.clone(), [0, 1]))
    if abs(found - 4 / 6) < 1e-9 or abs(found - 2 / 4) < 1e-9:
        raise WrongAnswer("square the gradients: a negative one is as far from 0 as a positive one")
    if abs(found - 10 / 14) > 1e-9:
        raise WrongAnswer(
            "f = 3 x₁ − x₂ + 2 x₃ has the squared gradients 9, 1 and 4: the first two inputs have "
            f"10/14 of them, not {found:.3f}"
        )
    squares = nn.Sequential(_Squares(), linear)
    found = float(answer(squares, inputs.clone(), [0, 1]))
    gradients = (2 * inputs * weights).square()
    expected = float(gradients[:, :2].sum() / gradients.sum())
    means = float((gradients[:, :2].sum(1) / gradients.sum(1)).mean())
    if abs(found - means) < 1e-9:
        raise WrongAnswer("sum over the examples first: this is the mean of each example's share")
    if abs(found - expected) > 1e-9:
        raise WrongAnswer("where gradients differ by example, sum their squares over the examples")


class _Squares(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.square()


def gradient_on_the_cue(pattern: float, cue: float, learnt: bool) -> float:
    """The size of the logistic loss's gradient on the weight of a cue of ±1."""
    residual = 2 * pattern * (1 - pattern) if learnt else 0.5
    return residual * (2 * cue - 1)


@exercise(
    "7.4.b",
    "A pattern and a cue, ±1 each, agree with a label with the probabilities pattern and cue, "
    "independently given the label; both values of the label are equally frequent. Give the size "
    "of the logistic loss's gradient on the cue's weight while that weight is 0: before the "
    "pattern is learnt (all predictions are 1/2), and once its log-odds are.",
    reference=gradient_on_the_cue,
    hints=(
        "The gradient is the mean of (y − p) c, with y of 0 or 1.",
        "With the pattern learnt, y − p is 1 − q where the pattern is right, and q in size where "
        "it is wrong: on average over the images of one label, 2 q (1 − q).",
    ),
)
def check_gradient_on_the_cue(answer: Callable[[float, float, bool], float]) -> None:
    """Accept the mean over all eight cases."""
    for pattern, cue in ((0.85, 0.98), (0.6, 0.9), (0.5, 0.7)):
        for learnt in (False, True):
            found = abs(float(answer(pattern, cue, learnt)))
            expected = _mean_gradient(pattern, cue, learnt)
            if abs(found - 2 * expected) < 1e-9:
                raise WrongAnswer("twice too large: labels are 0 or 1, predictions between them")
            if abs(found - expected) > 1e-9:
                raise WrongAnswer(
                    f"with pattern {pattern}, cue {cue} and learnt={learnt} the mean of (y − p) c "
                    f"over all cases is {expected:.4f}, not {found:.4f}"
                )


def _mean_gradient(pattern: float, cue: float, learnt: bool) -> float:
    """The mean of (y − p) c, case by case."""
    total = 0.0
    for label in (0, 1):
        for right in (True, False):
            for agrees in (True, False):
                odds = (pattern if right else 1 - pattern) * (cue if agrees else 1 - cue) / 2
                says_one = (label == 1) == right
                p = 0.5 if not learnt else (pattern if says_one else 1 - pattern)
                c = 1 if (label == 1) == agrees else -1
                total += odds * (label - p) * c
    return total


prediction(
    "7.4.c",
    "Make the pattern more reliable: let it agree with the label with probability 0.95 instead of "
    "0.85, in training. What happens to the share of the gradient on the cue that is left once the "
    "pattern is learnt?",
    choices=DIRECTIONS,
    answer="falls",
    because="It falls, from 4 · 0.85 · 0.15 = 0.51 to 4 · 0.95 · 0.05 = 0.19: the better the "
    "pattern, the fewer images are left on which the label asks for anything else.",
    hints=("On how many images is the pattern wrong, and what do they weigh?",),
)
