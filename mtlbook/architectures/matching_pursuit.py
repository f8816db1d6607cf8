r"""Section 6.2, fully-adaptive feature sharing: a thin network cut out of a wide, trained one.

Each stage keeps d' of its d filters, the rows of W, such that they explain all (Lu et al., 2017,
section 3.1):

    min over ω with |ω| = d', and over C, of ‖W − C W_ω‖_F.

Simultaneous orthogonal matching pursuit (Tropp, Gilbert and Strauss, 2006) takes one filter at a
time, that with the largest sum of absolute products with what is not yet explained of all filters.
The next layer reads C W_ω in W's place: its weights V become V C, which is exact where the layer
between is linear, or all filters are kept. (Whether the paper folds C in, too, could not be read.)

**Where it fails.** It compares weights, not features: filters that are unequal, but saturated or
silent on the data, count as different; and behind a nonlinearity C is but an approximation.
"""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mtlbook.errors import UsageError

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
# A filter that is explained but for rounding is chosen after all others.
EXPLAINED = 1e-12


def somp(
    filters: Float[Tensor, "filters weights"], keep: int
) -> tuple[Int[Tensor, " kept"], Float[Tensor, "filters kept"]]:
    """The filters that explain all best, greedily, and the coefficients C by which they do.

    Works on the filters' Gram matrix, whose Schur complement holds the products of what is left:
    512 filters of 4,608 weights take a second, whatever is kept.

    Arguments:
        filters: a row each.
        keep: how many are chosen.

    Raises:
        UsageError: for fewer than one, or more than there are.

    Example:
        >>> chosen, coefficients = somp(torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]]), 1)
        >>> chosen.tolist(), coefficients.flatten().tolist()
        ([2], [0.25, 0.25, 1.0])
    """
    if not 1 <= keep <= len(filters):
        raise UsageError(f"Keep 1 to {len(filters)} filters, not {keep}: there are no more.")
    left = filters @ filters.T
    norms = left.diagonal().clone()
    chosen: list[int] = []
    for _ in range(keep):
        score = left.abs().sum(0) / norms.sqrt()
        score[~(left.diagonal() > EXPLAINED * norms)] = 0.0
        score[chosen] = -1.0
        best = int(score.argmax())
        chosen.append(best)
        if score[best] > 0:
            left = left - torch.outer(left[best], left[best]) / left[best, best]
    kept = torch.tensor(chosen)
    return kept, _coefficients(filters, kept)


def _coefficients(filters: Tensor, kept: Tensor) -> Float[Tensor, "filters kept"]:
    """The least squares of all filters on those that were kept, which explain themselves."""
    # gelsd: filters that were kept may depend on each other.
    found = torch.linalg.lstsq(filters[kept].T, filters.T, driver="gelsd").solution.T
    found[kept] = torch.eye(len(kept), dtype=found.dtype)
    return found


@torch.no_grad()
def thin_start(
    wide: Sequence[nn.Module],
    thin: Sequence[nn.Module],
    heads: Iterable[tuple[nn.Module, nn.Module]],
) -> None:
    """Give thin stages and their heads weights that are cut out of wide ones.

    Arguments:
        wide: the stages of the wide network, each with one dense or convolutional layer.
        thin: those of the thin one, of the same kinds and with as many or fewer filters.
        heads: pairs of a wide and a thin head, which read the last stage.

    Raises:
        UsageError: for stages that differ in number or kind, or hold other parameters.

    Example:
        >>> wide, thin = nn.Linear(3, 8), nn.Linear(3, 2)
        >>> thin_start([wide], [thin], [(nn.Linear(8, 1), nn.Linear(2, 1))])
        >>> bool((wide.weight[:, None] == thin.weight).all(-1).any(0).all())
        True
    """
    if len(wide) != len(thin):
        raise UsageError(
            f"There are {len(wide)} wide and {len(thin)} thin stages: cut one out of each."
        )
    below: Tensor | None = None
    for old, new in zip(map(_layer, wide), map(_layer, thin), strict=True):
        weight = _folded(old.weight, below)
        rows = weight.flatten(1)
        if old.bias is not None:
            rows = torch.cat([rows, old.bias[:, None]], dim=1)
        kept, below = somp(rows, len(new.weight))
        _copy(new, weight[kept], None if old.bias is None else old.bias[kept])
    for source, own in heads:
        old = _layer(source)
        _copy(_layer(own), _folded(old.weight, below), old.bias)


def _copy(layer: Layer, weight: Tensor, bias: Tensor | None) -> None:
    layer.weight.copy_(weight)
    if bias is not None and layer.bias is not None:
        layer.bias.copy_(bias)


def _layer(stage: nn.Module) -> Layer:
    """The one layer of a stage that has weights."""
    every = [layer for layer in stage.modules() if [*layer.parameters(recurse=False)]]
    own = [layer for layer in every if isinstance(layer, Layer)]
    if len(own) != 1 or len(every) != 1:
        kinds = [type(layer).__name__ for layer in every]
        raise UsageError(
            f"A stage with the layers {kinds} can't be cut: give each stage one dense or "
            "convolutional layer, and none with other parameters."
        )
    return own[0]


def _folded(weight: Tensor, coefficients: Tensor | None) -> Tensor:
    """V C: weights on all channels as weights on those that are left, place by place."""
    if coefficients is None:
        return weight
    by_channel = weight.unflatten(1, (len(coefficients), -1))
    return torch.einsum("oi...,ik->ok...", by_channel, coefficients).flatten(1, 2)
