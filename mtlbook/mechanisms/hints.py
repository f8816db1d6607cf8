r"""Section 4.3, hints: known properties of the target function as penalties (Abu-Mostafa, 1990).

What is known about a function f beforehand (that it is odd, increasing, indifferent to a change of
its input, within bounds) is taught by *examples of the property*, pairs of inputs or inputs with
bounds, which need no label: they can be drawn at will. Each property has an error that is 0 where
the network has it, and the total is

$$E = E_\text{data} + \sum_h \lambda_h E_h$$

(Abu-Mostafa, *Learning from hints in neural networks*, Journal of Complexity 6, 1990; the errors
of the properties are those of *A method for learning from hints*, NIPS 1992, and *Hints*, Neural
Computation 7, 1995). Hints that are outputs, which predict a feature, are tasks: see
`mtlbook.mechanisms.eavesdropping`.

A property is a bias, and a false one does not go away with more data: the total keeps its share.

Example:
    >>> points = torch.tensor([[-1.0], [0.5], [2.0]])
    >>> f = torch.sin
    >>> oddness(f(points), f(-points)) < 1e-12
    tensor(True)
    >>> monotonicity(f(points), f(points + 1)) > 0  # the sine falls behind π/2
    tensor(True)
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtlbook.errors import UsageError

Values = Float[Tensor, "examples outputs"]
Penalty = Float[Tensor, ""]


def invariance(values: Values, changed: Values) -> Penalty:
    """The mean of (f(x) − f(x'))², where x' is a changed x whose target is the same.

    An even function is invariant to x' = −x.

    Example:
        >>> invariance(torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [5.0]]))
        tensor(4.5000)
    """
    return (values - changed).square().mean()


def oddness(values: Values, mirrored: Values) -> Penalty:
    """The mean of (f(x) + f(−x))².

    Example:
        >>> oddness(torch.tensor([[1.0], [2.0]]), torch.tensor([[-1.0], [0.0]]))
        tensor(2.)
    """
    return (values + mirrored).square().mean()


def monotonicity(lower: Values, upper: Values) -> Penalty:
    """The mean of max(0, f(x) − f(x'))², where x' ≥ x in the inputs in which f increases.

    Example:
        >>> monotonicity(torch.tensor([[1.0], [2.0]]), torch.tensor([[5.0], [0.0]]))
        tensor(2.)
    """
    return (lower - upper).clamp(min=0).square().mean()


def approximation(values: Values, low: Values, high: Values) -> Penalty:
    """The mean squared distance of f(x) from the interval [low, high] in which its target lies.

    The bounds are moved to where the values are, and to their precision.

    Example:
        >>> inside_below_above = torch.tensor([[0.5], [-2.0], [4.0]])
        >>> approximation(inside_below_above, torch.zeros(3, 1), torch.ones(3, 1))
        tensor(4.3333)
    """
    low, high = low.to(values), high.to(values)
    return ((low - values).clamp(min=0) + (values - high).clamp(min=0)).square().mean()


def regulariser(
    hint: Callable[..., Penalty],
    *inputs: Float[Tensor, "..."],
    task: str,
    strength: float,
) -> Callable[..., Penalty]:
    """λ E_h as a penalty on a model, for `Settings(regulariser=...)` or any training loop.

    Arguments:
        hint: takes the model's values for each of `inputs`: `oddness`, or
            `functools.partial(approximation, low=..., high=...)`.
        inputs: the examples of the property, such as x and −x: one set of inputs for each of the
            hint's arguments, equally many; moved to where the model is, and to its precision.
        task: whose values are meant; the model maps inputs to a dictionary of predictions.
        strength: λ, not below 0.

    Example:
        >>> class Price(nn.Linear):
        ...     def forward(self, inputs):
        ...         return {"price": super().forward(inputs)}
        >>> model, points = Price(2, 1), torch.ones(4, 2)
        >>> penalty = regulariser(oddness, points, -points, task="price", strength=0.5)
        >>> # A linear map is odd but for its bias.
        >>> torch.isclose(penalty(model), 0.5 * (2 * model.bias[0]) ** 2)
        tensor(True)
    """
    if not strength >= 0:
        raise UsageError(f"The strength of a hint must not be below 0, as {strength} is.")
    if len({len(each) for each in inputs}) != 1:
        raise UsageError(
            f"A hint compares inputs row by row: {[len(each) for each in inputs]} rows do not "
            "belong together."
        )
    every = torch.cat(inputs)

    def penalty(model: nn.Module, context: object = None) -> Tensor:  # noqa: ARG001
        like = next(model.parameters())
        values = model(every.to(like.device, like.dtype))[task]
        return strength * hint(*values.chunk(len(inputs)))

    return penalty
