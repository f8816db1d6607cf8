r"""Home of sluice networks (section 6.8): half of each layer's features common, half private."""

from collections.abc import Sequence
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.book.data.partly_shared import partly_shared_tasks
from mtlbook.data.synthetic import GAIN, SyntheticDataset, check_counts, hidden
from mtlbook.errors import UsageError
from mtlbook.randomness import generator, standard_normal

INPUTS, FEATURES, LAYERS = 20, 4, 2


def half_private(
    seed: int,
    *,
    rows: int,
    tasks: Sequence[str] = ("A", "B", "C"),
    shared: int = LAYERS,
    noise: float = 0.3,
) -> SyntheticDataset:
    r"""Regressions with two layers of four hidden features, two of them common up to a layer.

    `partly_shared_tasks` with $k_l = 2$ of 4 features common to all tasks for $l \le$ `shared`, and
    none above. No split fits: a shared layer has no room for what is private, and a branch learns
    what is common once for each task. A method that divides a layer can share the one half and keep
    the other.

    Arguments:
        seed: of everything drawn.
        rows: examples, each labelled for all tasks; the first rows are the same for any number.
        tasks: their names.
        shared: the dial, up to which layer half of the features are common: 2 in both, 1 in the
            first alone; 0 is the negative control, tasks with nothing in common but their inputs.
        noise: $\sigma$; signals have variance 1.

    Raises:
        UsageError: for a layer that is not there.

    Example:
        >>> made = half_private(0, rows=5)
        >>> made.data.inputs.shape, made.least_loss
        (torch.Size([5, 20]), {'A': 0.09, 'B': 0.09, 'C': 0.09})
    """
    if not 0 <= shared <= LAYERS:
        raise UsageError(f"shared names a layer up to which to share: 0 to {LAYERS}, not {shared}.")
    return partly_shared_tasks(
        seed,
        tasks=tasks,
        rows=rows,
        inputs=INPUTS,
        features=FEATURES,
        common=_common(shared),
        noise=noise,
    )


def true_features(
    seed: int, inputs: Float[Tensor, "rows inputs"], task: str, *, shared: int = LAYERS
) -> list[Float[Tensor, "rows features"]]:
    """A task's hidden features on some inputs, layer by layer: the common ones, then the private.

    Arguments:
        seed: that of `half_private`.
        inputs: its inputs, or others.
        task: whose features.
        shared: that of `half_private`.
    """
    check_counts(rows=len(inputs))
    found = []
    common = every = inputs
    for layer, count in enumerate(_common(shared), start=1):
        private = _features(every, FEATURES - count, seed, layer, task)
        common = _features(common, count, seed, layer, "common")
        every = torch.cat([common, private], dim=1)
        found.append(every)
    return found


def _common(shared: int) -> list[int]:
    return [FEATURES // 2 if layer < shared else 0 for layer in range(LAYERS)]


def _features(
    below: Float[Tensor, "rows below"], count: int, seed: int, layer: int, owner: str
) -> Float[Tensor, "rows count"]:
    """As `partly_shared_tasks` draws them."""
    width = below.shape[1]
    source = generator(seed, "partly shared", layer, owner)
    matrix = standard_normal(source, max(width, 1), count)[:width]
    return hidden(below, GAIN / sqrt(max(width, 1)) * matrix)
