"""Exercises of section 6.8, sluice networks."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.book.exercises import WrongAnswer, exercise, prediction


def mixed_layers(
    beta: Float[Tensor, "tasks layers"], layers: Float[Tensor, "layers tasks examples units"]
) -> Float[Tensor, "tasks examples units"]:
    """What each task's head takes: its own mixture of its column's layers."""
    return torch.einsum("tl,ltnu->tnu", beta, layers)


@exercise(
    "6.8.a",
    "Write the mixture of layers, h̃_t = Σ_l β_tl h̃_tl, from β of the shape (tasks, layers) and "
    "the columns' features of the shape (layers, tasks, examples, units).",
    reference=mixed_layers,
    hints=(
        "Each task has weights of its own, and takes the layers of its own column alone.",
        "torch.einsum takes the task's letter in both terms and keeps it in the result.",
    ),
)
def check_mixed_layers(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Accept each task's own sum."""
    layers = torch.arange(72, dtype=torch.float64).sin().view(3, 2, 3, 4)
    beta = torch.arange(6, dtype=torch.float64).cos().view(2, 3)
    found = answer(beta.clone(), layers.clone())
    if tuple(found.shape) != (2, 3, 4):
        raise WrongAnswer(
            f"the result is (tasks, examples, units) = (2, 3, 4), not {tuple(found.shape)}"
        )
    own = [sum(beta[t, place] * layers[place, t] for place in range(3)) for t in range(2)]
    if torch.allclose(found, torch.einsum("tl,lsnu->tnu", beta, layers)):
        raise WrongAnswer("the columns were already mixed by α: a head takes its own column alone")
    if not torch.allclose(found, torch.stack([torch.as_tensor(one) for one in own])):
        raise WrongAnswer("weight each layer of task t by β_tl, and add up over the layers")


def private_and_shared(subspaces: int, tasks: int) -> Float[Tensor, "parts parts"]:
    """The identity, but for the first subspace of each task, which is task 1's."""
    alpha = torch.eye(tasks * subspaces, dtype=torch.float64)
    first = torch.arange(tasks) * subspaces
    alpha[first] = alpha[0].clone()
    return alpha


@exercise(
    "6.8.b",
    "Give the α, (tasks · subspaces) × (tasks · subspaces), with which every task's first subspace "
    "is that of task 1 and all other subspaces stay the tasks' own.",
    reference=private_and_shared,
    hints=(
        "Rows take, columns give; task 2's first subspace is row `subspaces`, counted from 0.",
        "Start from the identity, and replace one row of each task.",
    ),
)
def check_private_and_shared(answer: Callable[[int, int], Tensor]) -> None:
    """Accept the pattern for several numbers of tasks and subspaces."""
    for subspaces, tasks in ((2, 2), (3, 2), (2, 4)):
        alpha, parts = answer(subspaces, tasks), tasks * subspaces
        if tuple(alpha.shape) != (parts, parts):
            raise WrongAnswer(f"α has a row and a column for each of {parts} subspaces")
        expected = private_and_shared(subspaces, tasks)
        if torch.allclose(alpha.double(), expected.T):
            raise WrongAnswer("transposed: rows take and columns give")
        if torch.allclose(alpha.double(), torch.eye(parts, dtype=torch.float64)):
            raise WrongAnswer("the identity shares nothing")
        if not torch.allclose(alpha.double(), expected):
            raise WrongAnswer(
                "every task's row 1 takes subspace 1 of task 1, and every other row its own"
            )


prediction(
    "6.8.c",
    "Let nothing be common, shared = 0. Is the sluice network's loss then lower than, equal to or "
    "higher than that of single-task networks, averaged over the tasks?",
    choices=("lower", "equal", "higher"),
    answer="higher",
    because="It is higher. α = I and β at the last layer would be single-task networks, but "
    "training starts from columns that share, and stops all tasks at one point. To contain a "
    "network is not to find it.",
    hints=("The sluice network could be equal to them. Where does its training start?",),
)
