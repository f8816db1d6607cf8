r"""Tensors in factors: LAF, Tucker and tensor trains, their products and their truncated SVDs.

The last axis is the task. With `error` = ε each cut keeps the fewest singular values whose rest has
at most ε of the norm of what is cut, so that the whole differs from the tensor by at most
ε √cuts of its norm: one cut for LAF, one an axis for Tucker, one fewer for tensor trains.
"""

from collections.abc import Sequence
from functools import partial, reduce
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.errors import UsageError

FORMS = ("LAF", "Tucker", "TT")


def product(factors: Sequence[Tensor], form: str) -> Float[Tensor, "..."]:
    """The tensor that the factors stand for.

    Example:
        >>> layers, mixing = torch.ones(4, 3, 2), torch.tensor([[1.0, 0.0], [0.0, 2.0]])
        >>> product([layers, mixing], "LAF")[0, 0]
        tensor([1., 2.])
    """
    # In their own precision: autocast would leave a chain half in another one.
    with torch.autocast(factors[0].device.type, enabled=False):
        if form != "Tucker":
            return reduce(partial(torch.tensordot, dims=1), factors)
        core, *matrices = factors
        # The first axis is always the next one: its product goes behind the others.
        return reduce(lambda left, own: left.movedim(0, -1) @ own.mT, matrices, core)


def decomposed(
    tensor: Float[Tensor, "..."], form: str, *, error: float = 0.0, ranks: Sequence[int] = ()
) -> list[Tensor]:
    """The factors by SVD (LAF), higher-order SVD (Tucker) or a sequence of SVDs (TT).

    Arguments:
        tensor: at least two axes.
        form: of the factors.
        error: ε, of each cut; 0 is exact.
        ranks: of the factors, by default those that the error asks for. Larger ones are filled up
            with zeros, in all factors; smaller ones cut further.
    """
    sizes, ranks = tensor.shape, list(ranks)
    if form == "Tucker":
        unfolded = [tensor.movedim(axis, 0).flatten(1) for axis in range(tensor.ndim)]
        wanted = ranks or [None] * tensor.ndim
        pairs = zip(unfolded, wanted, strict=True)
        matrices = [_cut(matrix, error, rank)[0] for matrix, rank in pairs]
        core = reduce(lambda left, own: left.movedim(0, -1) @ own, matrices, tensor)
        return [core, *matrices]
    groups = [tuple(sizes[:-1])] if form == "LAF" else [(size,) for size in sizes[:-1]]
    factors, rest, below = [], tensor, 1
    for group, rank in zip(groups, ranks or [None] * len(groups), strict=True):
        left, rest = _cut(rest.reshape(below * prod(group), -1), error, rank)
        factors.append(left.reshape(below, *group, -1))
        below = left.shape[1]
    return [factors[0].squeeze(0), *factors[1:], rest]


def ranks(factors: Sequence[Tensor], form: str) -> tuple[int, ...]:
    """The ranks of factors: of each axis for Tucker, else of each cut."""
    if form == "Tucker":
        return tuple(factors[0].shape)
    return tuple(factor.shape[-1] for factor in factors[:-1])


def largest_ranks(sizes: Sequence[int], form: str, tasks: int | None = None) -> tuple[int, ...]:
    """The ranks of an exact decomposition, where the last axis has the rank `tasks` at most.

    Example:
        >>> largest_ranks((16, 8, 10), "LAF", tasks=3), largest_ranks((16, 8, 10), "TT", tasks=3)
        ((3,), (16, 3))
    """
    last = min(sizes[-1], prod(sizes[:-1]), tasks or sizes[-1])
    if form == "LAF":
        return (last,)
    if form == "Tucker":
        reduced = (*sizes[:-1], last)
        return tuple(min(size, prod(reduced) // size) for size in reduced)
    own = [last]
    for axis in range(len(sizes) - 2, 0, -1):
        own.append(min(prod(sizes[:axis]), sizes[axis] * own[-1]))
    return tuple(reversed(own))


def checked_ranks(
    sizes: Sequence[int], form: str, asked: int | Sequence[int] | None, what: str
) -> tuple[int, ...]:
    """The ranks that were asked for: of the task axis alone, or all.

    Raises:
        UsageError: for too few or too many, and for one above the layer's size.
    """
    if form not in FORMS:
        raise UsageError(f"form is 'LAF', 'Tucker' or 'TT', not {form!r}.")
    largest = largest_ranks(sizes, form)
    own = (*largest[:-1], asked) if isinstance(asked, int) else tuple(asked or largest)
    fits = len(own) == len(largest) and all(1 <= o <= m for o, m in zip(own, largest, strict=True))
    if not fits:
        raise UsageError(
            f"{what}, {tuple(sizes)} with the tasks last, cannot have the {form} ranks {own}: "
            f"choose at least 1 and at most {largest}."
        )
    return largest_ranks(sizes, form, asked) if isinstance(asked, int) else own


def _cut(
    matrix: Float[Tensor, "rows columns"], error: float, rank: int | None
) -> tuple[Float[Tensor, "rows rank"], Float[Tensor, "rank columns"]]:
    """Orthonormal columns, and the rest; columns beyond what the error asks for are zero."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    tails = values.square().flip(0).cumsum(0).flip(0).sqrt()  # the norm from each value on
    needed = max(1, int((tails > error * tails[0]).sum()))
    kept = needed if rank is None else min(needed, rank)
    filled = kept if rank is None else rank
    columns, rows = matrix.new_zeros(len(left), filled), matrix.new_zeros(filled, right.shape[1])
    columns[:, :kept], rows[:kept] = left[:, :kept], values[:kept, None] * right[:kept]
    return columns, rows
