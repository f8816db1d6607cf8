"""Exercises of section 8.1, mixtures of experts."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.book.exercises import DIRECTIONS, WrongAnswer, exercise, prediction


def mixed_for_each_task(
    x: Float[Tensor, "examples inputs"],
    weights: Float[Tensor, "tasks experts inputs"],
    computed: Float[Tensor, "experts examples features"],
) -> Float[Tensor, "tasks examples features"]:
    """f_k(x) = Σ_i g_ki(x) f_i(x) with g_k(x) = softmax(W_k x)."""
    gates = torch.einsum("kei,ni->kne", weights, x).softmax(-1)
    return torch.einsum("kne,enf->knf", gates, computed)


@exercise(
    "8.1.a",
    "Write the multi-gate mixture f_k(x) = Σ_i g_ki(x) f_i(x), g_k(x) = softmax(W_k x), for inputs "
    "(examples, inputs), W (tasks, experts, inputs) and expert outputs (experts, examples, "
    "features).",
    reference=mixed_for_each_task,
    hints=(
        "Scores have the shape (tasks, examples, experts): the softmax is over the last axis.",
        "torch.einsum writes both products: which letters are summed over?",
    ),
)
def check_mixed_for_each_task(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Accept the mixture for two tasks and for three."""
    for tasks in (2, 3):
        x = torch.arange(12, dtype=torch.float64).sin().view(4, 3)
        weights = torch.arange(tasks * 5 * 3, dtype=torch.float64).cos().view(tasks, 5, 3)
        computed = torch.arange(5 * 4 * 2, dtype=torch.float64).sin().view(5, 4, 2)
        found = answer(x.clone(), weights.clone(), computed.clone())
        if tuple(found.shape) != (tasks, 4, 2):
            raise WrongAnswer(
                f"the result has the shape (tasks, examples, features) = {(tasks, 4, 2)}, not "
                f"{tuple(found.shape)}"
            )
        scores = torch.stack([x @ own.T for own in weights])
        expected = torch.stack(
            [(gate.softmax(1).T[:, :, None] * computed).sum(0) for gate in scores]
        )
        if torch.allclose(found, (scores.softmax(1).transpose(1, 2)[..., None] * computed).sum(1)):
            raise WrongAnswer("the weights of one example add up to 1 over experts, not examples")
        one_gate = (scores[0].softmax(1).T[:, :, None] * computed).sum(0)
        if torch.allclose(found, one_gate.expand(tasks, -1, -1)):
            raise WrongAnswer("that is one gate for all tasks: each task has its own W")
        if not torch.allclose(found, expected):
            raise WrongAnswer("weigh the experts of each example by its own softmax, and add them")


def parameters_of_a_mixture(
    inputs: int, experts: int, width: int, tasks: int, units: int, outputs: int = 1
) -> int:
    """Experts and towers with biases, gates without."""
    of_experts = experts * (inputs * width + width)
    of_gates = tasks * experts * inputs
    of_towers = tasks * ((width * units + units) + (units * outputs + outputs))
    return of_experts + of_gates + of_towers


@exercise(
    "8.1.b",
    "Count the trainable parameters of a multi-gate mixture: n experts of one hidden layer with "
    "biases, a gate a task without bias, and for each task a tower of one hidden layer and one "
    "output, both with biases. Arguments: inputs, experts, width, tasks, units.",
    reference=parameters_of_a_mixture,
    hints=(
        "A linear layer from a to b numbers has a b weights and, with a bias, b more.",
        "Each task has a gate, of experts × inputs weights.",
    ),
)
def check_parameters_of_a_mixture(answer: Callable[..., int]) -> None:
    """Accept the count of some sizes, among them the paper's."""
    for sizes in ((100, 8, 16, 2, 8), (8, 4, 8, 2, 4), (5, 3, 7, 4, 6)):
        found, expected = answer(*sizes), parameters_of_a_mixture(*sizes)
        inputs, experts, width, tasks, units = sizes
        if found == expected - tasks * experts * inputs:
            raise WrongAnswer("the gates are missing, as in the paper's own count")
        if found == expected - (tasks - 1) * experts * inputs:
            raise WrongAnswer("each task has a gate of its own")
        if found == expected + tasks * experts:
            raise WrongAnswer("these gates have no bias")
        if found == expected - experts * width - tasks * (units + 1):
            raise WrongAnswer("the layers of experts and towers have biases")
        if found != expected:
            raise WrongAnswer(
                f"with (inputs, experts, width, tasks, units) = {sizes} there are {expected:,}, "
                f"not {found:,}"
            )


def gates_that_switch(inputs: int) -> tuple[Tensor, Tensor]:
    """Task 1 takes expert 1 where x_1 > 0 and expert 2 elsewhere, task 2 always expert 2."""
    weights, bias = torch.zeros(2, 2, inputs), torch.zeros(2, 2)
    weights[0, 0, 0] = 1_000.0
    bias[1, 1] = 1_000.0
    return weights, bias


@exercise(
    "8.1.c",
    "Give W (2 tasks, 2 experts, inputs) and b (2, 2) of gates softmax(W x + b), so that task 1 "
    "uses expert 1 where the first input is positive and expert 2 where it is negative, and task 2 "
    "uses expert 2 everywhere.",
    reference=gates_that_switch,
    hints=(
        "A difference of 10 in the scores already gives weights of almost 1 and 0.",
        "Task 2 must not look at x at all: what is left for it?",
    ),
)
def check_gates_that_switch(answer: Callable[[int], tuple[Tensor, Tensor]]) -> None:
    """Accept gates that are as good as hard away from the border."""
    for inputs in (1, 4):
        weights, bias = (torch.as_tensor(given).double() for given in answer(inputs))
        if tuple(weights.shape) != (2, 2, inputs) or tuple(bias.shape) != (2, 2):
            raise WrongAnswer(f"W has the shape (2, 2, {inputs}) and b the shape (2, 2)")
        x = torch.arange(10 * inputs, dtype=torch.float64).sin().view(10, inputs)
        x[:, 0] = x[:, 0].sign() * (0.2 + x[:, 0].abs())
        gates = (torch.einsum("kei,ni->kne", weights, x) + bias[:, None]).softmax(-1)
        if bool((gates[1, :, 1] < 0.95).any()):
            raise WrongAnswer(
                "task 2 must use expert 2 everywhere: without a bias its preference would turn "
                "round at −x"
            )
        expected = (x[:, 0] > 0).double()
        if bool(((gates[0, :, 0] - expected).abs() > 0.05).any()):
            raise WrongAnswer("task 1 must switch with the sign of the first input, and sharply")


prediction(
    "8.1.d",
    "In the cell of 8.1.2, make the gate sharp: scale = 20. One example then uses hardly more than "
    "one expert. What happens to the number of experts in use over all examples?",
    choices=DIRECTIONS,
    answer="stays",
    because="It stays near 4: other examples pick other experts, and without a bias none is "
    "preferred on average. Sharp gates are not collapsed gates.",
    hints=("Which expert does the mirrored example −x pick?",),
)
