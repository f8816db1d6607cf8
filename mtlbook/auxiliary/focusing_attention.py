r"""Section 7.4, focusing attention: a label for a small part of the input that a network overlooks.

Beside the main label of an image stands a label of a small cue in it, known in training alone; a
shared trunk with a head for each is trained on (Caruana, 1997, section 4.5; Ruder, 2017, 7.4)

    L = L_main + λ L_cue.

Caruana gives no measure of attention. Here it is the share of the squared input gradients of the
main task's prediction f that lies on an area A of the input, over examples n:

    S_A(f) = Σ_n Σ_{j∈A} (∂f(x_n)/∂x_nj)² / Σ_n Σ_j (∂f(x_n)/∂x_nj)².

With random weights, alike at every input, S_A is on average the area's share of the inputs.

Why a cue is overlooked: let a pattern that is easily seen agree with a binary label with
probability q, and a cue agree with it, independently given the label. Once the pattern's log-odds
are learnt, the logistic loss's gradient on the cue's weight is 4 q (1 − q) times what it was
before; the gradient of a loss on the cue's own label, within a class of the main one, is what it
was.

**Where it fails.** A network that reads the cue anyway gains nothing but the labels' finer detail;
where the pattern is all there is, there is nothing to see. The gradient is per unit of the input: a
faint cue needs larger weights than a strong one to say the same, and has the larger share. And a
share says where a network looks, not whether it reads well.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from mtlbook.errors import UsageError


def squared_input_gradients(
    predict: Callable[[Float[Tensor, "examples *shape"]], Float[Tensor, "examples ..."]],
    inputs: Shaped[Tensor, "examples *shape"],
) -> Float[Tensor, "examples *shape"]:
    """(∂f/∂x_j)² of each example and input, summed over the outputs of f.

    Each example's prediction must depend on its own input alone: put batch normalisation into
    evaluation first. The result has a gradient by the model's parameters, as a penalty needs it.

    Arguments:
        predict: f, from inputs to one task's predictions.
        inputs: of a floating type; they need not ask for a gradient.

    Raises:
        UsageError: for inputs that are whole numbers, and predictions that are not one row each.

    Example:
        >>> squared_input_gradients(lambda x: x @ torch.tensor([[3.0], [-1.0]]), torch.ones(1, 2))
        tensor([[9., 1.]])
    """
    if not inputs.is_floating_point():
        raise UsageError(
            f"There is no gradient on inputs of {inputs.dtype}: give floating-point inputs, such "
            "as the words' embeddings."
        )

    def summed(x: Tensor) -> Tensor:
        predictions = predict(x)
        if not isinstance(predictions, Tensor) or predictions.shape[:1] != x.shape[:1]:
            raise UsageError(
                f"predict gives {getattr(predictions, 'shape', type(predictions).__name__)} for "
                f"{len(x)} inputs: a tensor with a row each is needed, such as "
                'lambda x: model(x)["label"].'
            )
        return predictions.reshape(len(x), -1).sum(0)

    return torch.func.jacrev(summed)(inputs).square().sum(0)


def area_share(
    gradients: Float[Tensor, "examples *shape"], area: Shaped[Tensor, "..."]
) -> Float[Tensor, ""]:
    """S_A: the part of the squared gradients of all examples that lies on an area.

    NaN where a prediction depends on no input at all.

    Arguments:
        gradients: those of `squared_input_gradients`.
        area: marks of the inputs that form the area A.

    Raises:
        UsageError: for an area of another shape or type, or without any input.

    Example:
        >>> squared = torch.tensor([[9.0, 1.0], [5.0, 5.0]])
        >>> area_share(squared, torch.tensor([True, False]))
        tensor(0.7000)
    """
    if area.dtype != torch.bool or area.shape != gradients.shape[1:]:
        raise UsageError(
            f"The area is {area.dtype} of the shape {tuple(area.shape)}: mark each of the inputs, "
            f"of the shape {tuple(gradients.shape[1:])}, by torch.bool."
        )
    if not bool(area.any()):
        raise UsageError("The area has no input: mark at least one.")
    return (gradients * area).sum() / gradients.sum()


def gradient_left(agreement: float) -> float:
    """4 q (1 − q): what a learnt pattern leaves of the gradient on a cue, as a share.

    With labels ±1 equally frequent, pattern s and cue c of ±1 each: before anything is learnt, the
    mean of (y − p) c is half the cue's correlation with the label; with the pattern's log-odds
    learnt, p is q or 1 − q, and it is 2 q (1 − q) times that correlation.

    Arguments:
        agreement: q, the probability that the pattern agrees with the label.

    Raises:
        UsageError: for a q that is no probability.

    Example:
        >>> [round(gradient_left(q), 2) for q in (0.5, 0.85, 0.98)]
        [1.0, 0.51, 0.08]
    """
    if not 0 <= agreement <= 1:
        raise UsageError(f"agreement is a probability, 0 to 1, not {agreement}.")
    return 4 * agreement * (1 - agreement)
