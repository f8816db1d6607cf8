"""Exercises of section 6.7, tensor factorisation."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.book.exercises import WrongAnswer, exercise, prediction


def layers_of(
    layers: Float[Tensor, "outputs inputs components"], mixing: Float[Tensor, "components tasks"]
) -> Float[Tensor, "outputs inputs tasks"]:
    """W_t = Σ_k ℒ_k S_kt, for all tasks at once."""
    return layers @ mixing


@exercise(
    "6.7.a",
    "Write the layers of all tasks, 𝒲[o, i, t] = Σ_k ℒ[o, i, k] S[k, t].",
    reference=layers_of,
    hints=(
        "The sum runs over the last axis of ℒ and the first of S.",
        "A matrix product does that for any axes in front: ℒ @ S.",
    ),
)
def check_layers_of(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Accept the stack for as many components as tasks, and for fewer."""
    for components in (3, 2):
        layers = torch.arange(4 * 5 * components, dtype=torch.float64).sin()
        layers = layers.view(4, 5, components)
        mixing = torch.arange(components * 3, dtype=torch.float64).cos().view(components, 3)
        found = answer(layers.clone(), mixing.clone())
        if tuple(found.shape) != (4, 5, 3):
            raise WrongAnswer("the task is the last axis: (outputs, inputs, tasks) = (4, 5, 3)")
        if components == 3 and torch.allclose(found, layers @ mixing.T):
            raise WrongAnswer("column t of S, not row t, belongs to task t")
        if not torch.allclose(found, layers @ mixing):
            raise WrongAnswer("sum over the components: task t mixes them with the weights S[:, t]")


def rank_at(values: Float[Tensor, " values"], error: float) -> int:
    """The fewest singular values whose rest has at most ε of the norm of all."""
    rest = values.square().flip(0).cumsum(0).flip(0).sqrt()  # from each value on
    return max(1, int((rest > error * rest[0]).sum()))


@exercise(
    "6.7.b",
    "From the singular values of a stack, in falling order, and ε, give the rank that ε asks for: "
    "the fewest components whose truncation error is at most ε of the stack's norm.",
    reference=rank_at,
    hints=(
        "The squared error of a truncated SVD is the sum of the squared values left out.",
        "Compare the root of the sum over values k+1, k+2, … with ε times the root over all.",
    ),
)
def check_rank_at(answer: Callable[[Tensor, float], int]) -> None:
    """Accept the rank for a value left out, for none, and where one is enough."""
    values = torch.tensor([4.0, 3.0, 0.3, 0.4], dtype=torch.float64).sort(descending=True).values
    if answer(values.clone(), 0.0) != 4:
        raise WrongAnswer("with ε = 0 nothing may be left out")
    # The two small values have 10 % of the norm together.
    if answer(values.clone(), 0.11) == 3:
        raise WrongAnswer("what is left out counts together, as a root of squares, not one by one")
    if answer(values.clone(), 0.08) == 2:
        raise WrongAnswer("the norm of all is a root of squares, not a sum; both rest and whole")
    for error, rank in ((0.11, 2), (0.08, 3), (0.7, 1), (0.0, 4)):
        if answer(values.clone(), error) != rank:
            raise WrongAnswer(f"for {values.tolist()} and ε = {error} the rank is {rank}")


prediction(
    "6.7.c",
    "What is the paper's sharing strength ρ, the mean cosine between the softmax of the columns of "
    "|S|, of 50 separate networks, S = I? (a number, to 0.1)",
    answer=0.95,
    within=0.1,
    because="It is 0.95: softmax of a column of the identity is nearly the same number 1/50 "
    "everywhere, whichever column it is. So ρ says 'shared' of networks that share nothing.",
    hints=("Write down softmax of (1, 0, 0, …, 0): how far is it from all entries equal?",),
)

prediction(
    "6.7.d",
    "Set bases = 1, so that all constructed tasks are the same. Which of the contestants "
    "has the least test loss then?",
    choices=("single-task", "factors", "hard sharing"),
    answer="hard sharing",
    because="Hard sharing: with one function for all tasks a trunk learns from all rows and loses "
    "nothing, and needs no mixing weights.",
    hints=("What does a factorisation still have to learn that a trunk has built in?",),
)
