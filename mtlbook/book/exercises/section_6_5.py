"""Exercises of section 6.5, a joint many-task model."""

from collections.abc import Callable, Sequence
from math import inf

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.book.exercises import DIRECTIONS, WrongAnswer, exercise, prediction


def lower_labels(
    logits: Sequence[Float[Tensor, "positions _"]],
    embeddings: Sequence[Float[Tensor, "_ width"]],
) -> Float[Tensor, "positions width"]:
    """Σ_m Σ_j p_j ℓ_j: each lower task's expected label embedding, summed over the tasks."""
    expected = [own.softmax(1) @ rows for own, rows in zip(logits, embeddings, strict=True)]
    return torch.stack(expected).sum(0)


@exercise(
    "6.5.a",
    "Write the label vector that enters a level: the sum over the tasks below of the expected "
    "embeddings of their labels, from lists of logits and of embeddings, one entry a task.",
    reference=lower_labels,
    hints=(
        "The probabilities of a position's labels are the softmax of its logits.",
        "A row of probabilities times the matrix of embeddings is an expectation.",
    ),
)
def check_lower_labels(answer: Callable[..., Tensor]) -> None:
    """Accept the sum for one lower task and for two with different numbers of labels."""
    for labels in ((3,), (3, 5)):
        logits = [torch.arange(4.0 * n).sin().view(4, n) * 2 for n in labels]
        embeddings = [torch.arange(2.0 * n).cos().view(n, 2) for n in labels]
        found = answer([own.clone() for own in logits], [own.clone() for own in embeddings])
        pairs = list(zip(logits, embeddings, strict=True))
        if tuple(found.shape) != (4, 2):
            raise WrongAnswer(
                "the result has a vector of the embeddings' width at each position, however many "
                "tasks there are: sum them"
            )
        if torch.allclose(found, torch.stack([a @ e for a, e in pairs]).sum(0)):
            raise WrongAnswer("logits are no probabilities: take the softmax over the labels")
        if torch.allclose(found, torch.stack([e[a.argmax(1)] for a, e in pairs]).sum(0)):
            raise WrongAnswer("not the likeliest label's vector, but the expectation over all")
        if torch.allclose(found, torch.stack([a.softmax(0) @ e for a, e in pairs]).sum(0)):
            raise WrongAnswer("the softmax is over the labels of a position, not over positions")
        if not torch.allclose(found, lower_labels(logits, embeddings)):
            raise WrongAnswer("Σ_m Σ_j p_j ℓ_j: a plain sum over tasks, an expectation over labels")


def proximal(
    reached: Float[Tensor, "..."], earlier: Float[Tensor, "..."], rate: float, delta: float
) -> Float[Tensor, "..."]:
    """(g + 2ηδ θ′) / (1 + 2ηδ), and θ′ where δ is infinite."""
    if delta == inf:
        return earlier
    return (reached + 2 * rate * delta * earlier) / (1 + 2 * rate * delta)


@exercise(
    "6.5.b",
    "Give the θ that minimises ½ ‖θ − g‖² + η δ ‖θ − θ′‖², for any δ from 0 to infinity.",
    reference=proximal,
    hints=(
        "Set the derivative, (θ − g) + 2ηδ (θ − θ′), to zero.",
        'For δ = float("inf") the formula is ∞/∞: what is its limit?',
    ),
)
def check_proximal(answer: Callable[..., Tensor]) -> None:
    """Accept the minimum, its limits included."""
    reached, earlier = torch.tensor([3.0, -1.0, 0.5]), torch.tensor([1.0, 1.0, 0.5])
    found = answer(reached, earlier, 0.25, 3.0)
    if torch.allclose(found, reached - 0.25 * 2 * 3.0 * (reached - earlier)):
        raise WrongAnswer("that is a gradient step on the penalty; its minimum is asked for")
    if torch.allclose(found, (reached + 0.75 * earlier) / 1.75):
        raise WrongAnswer("the penalty is δ ‖θ − θ′‖² without ½: its derivative has a factor of 2")
    if not torch.allclose(found, proximal(reached, earlier, 0.25, 3.0)):
        raise WrongAnswer("set (θ − g) + 2ηδ (θ − θ′) to zero and solve for θ")
    if not torch.allclose(answer(reached, earlier, 0.25, 0.0), reached):
        raise WrongAnswer("with δ = 0 there is no anchor: θ = g")
    if not torch.equal(answer(reached, earlier, 0.25, inf), earlier):
        raise WrongAnswer("with δ = ∞ nothing moves: θ = θ′, exactly")


prediction(
    "6.5.c",
    "Raise delta from 0.03 to 0.15. What happens to the test loss of the top task after its long "
    "pass, where it competes with the lower tasks?",
    choices=DIRECTIONS,
    answer="rises",
    because="It rises: the top task may move the lower levels less, and has to make do with "
    "features that serve others.",
    hints=("Who wants to move the lower levels during the top task's pass, and why?",),
)
