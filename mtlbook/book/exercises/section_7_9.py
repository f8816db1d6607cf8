"""Exercises of section 7.9, what auxiliary tasks are helpful."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.book.exercises import DIRECTIONS, WrongAnswer, exercise, prediction


def gated_direction(
    main: Float[Tensor, " parameters"], auxiliary: Float[Tensor, " parameters"]
) -> Float[Tensor, " parameters"]:
    """The main gradient plus max(0, cos) times the auxiliary one."""
    scale = main.norm() * auxiliary.norm()
    cosine = main @ auxiliary / scale if scale > 0 else main.new_tensor(0.0)
    return main + cosine.clamp(min=0) * auxiliary


@exercise(
    "7.9.a",
    "Write the direction of Du et al. (2018) for a main gradient and one auxiliary gradient: "
    "∇L_main + max(0, cos(∇L_main, ∇L_aux)) ∇L_aux.",
    reference=gated_direction,
    hints=(
        "The cosine is the inner product divided by both lengths.",
        "clamp(min=0) closes the gate on gradients that disagree.",
    ),
)
def check_gated_direction(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Accept what the formula gives, also for equal, orthogonal and opposed gradients."""
    main = torch.tensor([3.0, 4.0], dtype=torch.float64)
    cases = {
        "equal": main.clone(),
        "orthogonal": torch.tensor([-4.0, 3.0], dtype=torch.float64),
        "opposed": -main,
        "of another length": torch.tensor([6.0, 0.0], dtype=torch.float64),
    }
    for what, auxiliary in cases.items():
        found = answer(main.clone(), auxiliary.clone())
        if tuple(found.shape) != (2,):
            raise WrongAnswer("the direction has an entry for each parameter")
        if what == "opposed" and not torch.allclose(found, main):
            raise WrongAnswer("an auxiliary that disagrees is left out: clamp the cosine at 0")
        if what == "of another length" and torch.allclose(
            found, main + (main @ auxiliary) / (main @ main) * auxiliary
        ):
            raise WrongAnswer("the cosine is divided by both lengths, not by the main one squared")
        if not torch.allclose(found, gated_direction(main, auxiliary)):
            raise WrongAnswer(f"wrong where the auxiliary gradient is {what}: {found.tolist()}")


def area_within(
    probabilities: Sequence[float], gained: Sequence[bool], left_out: Sequence[str]
) -> float:
    """The share of comparisons within a left-out task in which the pair that gains is ahead."""
    right = compared = 0.0
    triples = list(zip(probabilities, gained, left_out, strict=True))
    for ahead, up, task in triples:
        for behind, other_up, other_task in triples:
            if up and not other_up and task == other_task:
                right += 1.0 if ahead > behind else 0.5 if ahead == behind else 0.0
                compared += 1
    return right / compared


@exercise(
    "7.9.b",
    "Return the area under the curve among pairs of the same left-out task: of all comparisons of "
    "a pair that gained with one that did not, both of one left-out task, the share in which the "
    "former has the higher probability; ties count one half.",
    reference=area_within,
    hints=(
        "Fits that leave out different tasks have different levels: never compare across them.",
        "Count comparisons over all tasks first, and divide once at the end.",
    ),
)
def check_area_within(
    answer: Callable[[Sequence[float], Sequence[bool], Sequence[str]], float],
) -> None:
    """Accept the share of right comparisons within tasks."""
    # Within each task the order is right, across tasks it is wrong.
    levels = ([0.9, 0.8, 0.2, 0.1], [True, False, True, False], ["a", "a", "b", "b"])
    found = answer(*levels)
    if abs(found - 0.75) < 1e-9:
        raise WrongAnswer("pairs of different left-out tasks come from different fits: 0.75 here")
    if abs(found - 1.0) > 1e-9:
        raise WrongAnswer(f"within each task the order is right here: 1.0, not {found}")
    ties = ([0.5, 0.5, 0.3], [True, False, False], ["a", "a", "a"])
    if abs(answer(*ties) - 0.75) > 1e-9:
        raise WrongAnswer("a tie counts one half, and a right comparison one")
    sizes = ([0.9, 0.1, 0.2, 0.3, 0.8], [True, False, False, False, False], list("aaaaa"))
    both = (
        [*sizes[0], 0.1, 0.9],
        [*sizes[1], True, False],
        [*sizes[2], "b", "b"],
    )
    if abs(answer(*both) - 0.8) > 1e-9:
        raise WrongAnswer("count comparisons over all tasks, do not average the tasks' areas")


prediction(
    "7.9.c",
    "Raise the number of random features of a task from 1 to 20. What happens to the error about "
    "new auxiliary tasks?",
    choices=DIRECTIONS,
    answer="falls",
    because="It falls: random numbers say nothing about a task, but enough of them tell the eight "
    "main tasks apart, and here the main task alone decides who gains. The error about new main "
    "tasks shows that nothing was learnt about tasks.",
    hints=("What can a logistic regression do with numbers that differ for each main task?",),
)
