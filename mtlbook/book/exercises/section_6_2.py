"""Exercises of section 6.2, fully-adaptive feature sharing."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.architectures import fully_adaptive_sharing
from mtlbook.book.exercises import DIRECTIONS, WrongAnswer, exercise, prediction


def task_affinity(margins: Float[Tensor, "rows tasks"]) -> Float[Tensor, "tasks tasks"]:
    """How often two tasks agree on which rows are hard."""
    hard = (margins >= margins.mean(0)).to(margins.dtype)
    return (hard.T @ hard + (1 - hard).T @ (1 - hard)) / len(hard)


@exercise(
    "6.2.a",
    "Write the affinity A_ij = E[e_i e_j + (1 − e_i)(1 − e_j)] of tasks from their margins, "
    "rows × tasks, where e is 1 at a margin of at least the task's mean.",
    reference=task_affinity,
    hints=(
        "margins >= margins.mean(0) compares each task with its own mean.",
        "A matrix product over the rows counts those that are hard for both; 1 − e those easy.",
    ),
)
def check_task_affinity(answer: Callable[[Tensor], Tensor]) -> None:
    """Accept the affinity of margins whose mean is not their median."""
    margins = torch.arange(40, dtype=torch.float64).sin().abs().view(10, 4) ** 3
    found = answer(margins.clone())
    if tuple(found.shape) != (4, 4):
        raise WrongAnswer("there is an affinity for each pair of tasks: tasks × tasks")
    hard = (margins >= margins.mean(0)).double()
    if torch.allclose(found, hard.T @ hard / len(hard)):
        raise WrongAnswer("rows that are easy for both tasks count as agreement, too")
    middle = (margins >= margins.median(0).values).double()
    if torch.allclose(found, (middle.T @ middle + (1 - middle).T @ (1 - middle)) / len(middle)):
        raise WrongAnswer("the threshold is the mean margin, not the median")
    if torch.allclose(found, len(hard) * task_affinity(margins)):
        raise WrongAnswer("the mean over the rows, not their number")
    if not torch.allclose(found, task_affinity(margins)):
        raise WrongAnswer("each entry is the share of rows on which e_i and e_j are equal")


def branch_loss(
    of_branches: Float[Tensor, "branches branches"],
    groups: Sequence[int],
    cost: float,
    alpha: float,
) -> float:
    """What a grouping of branches costs, and how unlike those of a group are."""
    count = len(set(groups))
    return (count - 1) * cost + alpha * fully_adaptive_sharing.separation(of_branches, groups)


@exercise(
    "6.2.b",
    "Write the loss (d − 1) cost + α L_s of a grouping of branches, where L_s is the mean over "
    "groups of 1 − mean_k min_l A_kl.",
    reference=branch_loss,
    hints=(
        "For each group take the rows and columns of A that belong to it.",
        "The least entry of each of these rows, then their mean, then 1 minus it: one number a "
        "group.",
    ),
)
def check_branch_loss(answer: Callable[[Tensor, Sequence[int], float, float], float]) -> None:
    """Accept the loss for unequal groups, where means over groups and over branches differ."""
    values = torch.arange(25, dtype=torch.float64).cos().abs().view(5, 5)
    of_branches = ((values + values.T) / 2).fill_diagonal_(1.0)
    for groups in ([0, 0, 0, 1, 1], [0] * 5, list(range(5))):
        found = float(answer(of_branches.clone(), groups, 0.5, 3.0))
        expected = branch_loss(of_branches, groups, 0.5, 3.0)
        if abs(found - expected - 0.5) < 1e-9:
            raise WrongAnswer("one group costs nothing: d − 1 further branches are paid for")
        labels = torch.tensor(groups)
        least = torch.where(labels[:, None] == labels, of_branches, 2.0).amin(1)
        over_branches = (len(set(groups)) - 1) * 0.5 + 3.0 * float(1 - least.mean())
        if abs(expected - over_branches) > 1e-9 and abs(found - over_branches) < 1e-9:
            raise WrongAnswer("first the mean within each group, then the mean over the groups")
        if not abs(found - expected) < 1e-9:
            raise WrongAnswer("L_s takes the least affinity of each branch within its own group")


def chance_agreement(first: float, second: float) -> float:
    """Both hard, or both easy."""
    return first * second + (1 - first) * (1 - second)


@exercise(
    "6.2.c",
    "Two independent tasks find shares of the rows hard. What is the expected value of their "
    "affinity?",
    reference=chance_agreement,
    hints=("Independent: the probability that both are hard is the product of the shares.",),
)
def check_chance_agreement(answer: Callable[[float, float], float]) -> None:
    """Accept the agreement of independent tasks."""
    for first, second in ((0.2, 0.2), (0.1, 0.7), (0.5, 0.9)):
        found = float(answer(first, second))
        if abs(found - first * second) < 1e-9:
            raise WrongAnswer("rows that are easy for both are agreement, too")
        if not abs(found - chance_agreement(first, second)) < 1e-9:
            raise WrongAnswer(
                "they agree where both are hard and where both are easy: two products"
            )


prediction(
    "6.2.d",
    "Give each of the eight tasks an XOR of its own, groups = 8. What happens to the reduction of "
    "the loss by the tree against random trees of the same shape?",
    choices=DIRECTIONS,
    answer="falls",
    because="It falls: no two tasks share anything above the common features, so that no grouping "
    "is better than another, and a random tree of the same shape does as well.",
    hints=("Which tasks should share a branch, where all are equally unlike?",),
)
