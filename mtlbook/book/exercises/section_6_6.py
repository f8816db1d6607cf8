"""Exercises of section 6.6, weighting losses with uncertainty."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.book.exercises import DIRECTIONS, WrongAnswer, exercise, prediction
from mtlbook.tasks import Task
from mtlbook.weighting.uncertainty import UncertaintyWeighting


def joint_loss(
    losses: Float[Tensor, " tasks"], log_variances: Float[Tensor, " tasks"]
) -> Float[Tensor, ""]:
    """σ² = exp(s) and log σ = s / 2."""
    return (losses / (2 * log_variances.exp()) + log_variances / 2).sum()


@exercise(
    "6.6.a",
    "Write the objective for regressions, Σ_t L_t / (2σ_t²) + log σ_t, from the vectors of L_t and "
    "s_t = log σ_t².",
    reference=joint_loss,
    hints=("What is σ² in terms of s?", "log σ = s / 2, and the sum runs over the tasks."),
)
def check_joint_loss(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Accept the value of the package's weighting for two and for three tasks."""
    for tasks in (2, 3):
        losses = torch.linspace(0.5, 4.0, tasks, dtype=torch.float64)
        s = torch.linspace(-1.0, 2.0, tasks, dtype=torch.float64)
        weighting = UncertaintyWeighting([Task.regression(f"task_{n}") for n in range(tasks)])
        with torch.no_grad():
            weighting.log_variances.copy_(s)
            right = weighting(losses)
        found = torch.as_tensor(answer(losses, s.clone()), dtype=torch.float64)
        if found.ndim:
            raise WrongAnswer("one number is minimised: add up what the tasks contribute")
        if torch.isclose(found, right + (s / 2).sum()):
            raise WrongAnswer("log σ is not s: s = log σ², and the logarithm of a square is twice")
        if torch.isclose(found, right - (s / 2).sum()):
            raise WrongAnswer("the term log σ is missing: without it σ² would grow without end")
        if not torch.isclose(found, right):
            raise WrongAnswer("each loss is divided by 2σ², which is 2 exp(s), and log σ is added")


def weight_without_halves(loss: float) -> float:
    """-exp(-s) L + 1 = 0 at exp(s) = L: the weight is 1 / L, twice Kendall's 1 / (2 L)."""
    return 1 / loss


@exercise(
    "6.6.b",
    "At the best s of exp(-s) L + s, what is the weight of the loss L?",
    reference=weight_without_halves,
    hints=(
        "Set the derivative with respect to s to zero.",
        "Then exp(s) = L: the weight is exp(-s).",
    ),
)
def check_weight_without_halves(answer: Callable[[float], float]) -> None:
    """Accept 1 / L."""
    found = {loss: float(answer(loss)) for loss in (0.2, 3.0)}
    if all(abs(found[loss] - 1 / (2 * loss)) < 1e-9 for loss in found):
        raise WrongAnswer(
            "that is Kendall's weight, whose terms L / (2σ²) and log σ have a factor ½ each: "
            "here both are gone"
        )
    if all(abs(found[loss] - loss) < 1e-9 for loss in found):
        raise WrongAnswer("that is σ² = exp(s) at the minimum; the loss is multiplied by exp(-s)")
    if any(abs(found[loss] - 1 / loss) > 1e-9 for loss in found):
        raise WrongAnswer(
            "the derivative by s is 1 - exp(-s) L: where is it 0, and what is exp(-s)?"
        )


def balanced_start(
    losses: Float[Tensor, " tasks"], factors: Float[Tensor, " tasks"]
) -> Float[Tensor, " tasks"]:
    """-c exp(-s) L + ½ = 0 at exp(s) = 2 c L: every weighted loss is ½."""
    return (2 * factors * losses).log()


@exercise(
    "6.6.c",
    "With which s_t must training start so that the objective is at its minimum by s?",
    reference=balanced_start,
    hints=(
        "Each task's term is c exp(-s) L + s / 2: set its derivative with respect to s to zero.",
        "The minimum lies at exp(s) = 2 c L.",
    ),
)
def check_balanced_start(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Accept log 2cL, for a regression and two classifications."""
    losses = torch.tensor([250.0, 0.4, 1.1], dtype=torch.float64)
    factors = torch.tensor([0.5, 1.0, 1.0], dtype=torch.float64)
    found = torch.as_tensor(answer(losses.clone(), factors.clone()), dtype=torch.float64)
    if found.shape != losses.shape:
        raise WrongAnswer("the result has an s for each task")
    if torch.allclose(found.exp(), 2 * factors * losses):
        return
    if torch.allclose(found, 2 * factors * losses):
        raise WrongAnswer("these are the variances σ²: what is trained is their logarithm")
    weighted = factors * torch.exp(-found) * losses
    if torch.allclose(weighted, weighted[:1].expand(3)):
        raise WrongAnswer(
            f"the weighted losses are equal, but all {float(weighted[0]):.3g}: at the minimum of "
            "the objective each is ½"
        )
    raise WrongAnswer(
        "the weighted losses c exp(-s) L are not equal: at the minimum σ² is L for a regression "
        "and 2L for a classification; how do you write both with the factor c?"
    )


prediction(
    "6.6.d",
    "Let the quiet task have the large scale, noise = [1.0, 0.3]. What happens to the reduction of "
    "the loss by learnt against equal weights?",
    choices=DIRECTIONS,
    answer="falls",
    because="It falls to about 0. Equal weights now favour the task with little noise, from which "
    "there is more to learn. Learnt weights make the losses count alike and take that away: they "
    "cannot tell a large loss that is noise from one that is signal.",
    hints=("Which task gives most of the gradient under equal weights, and is it noise?",),
)
