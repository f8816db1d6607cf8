r"""Synthetic tasks that share some of their hidden features, layer by layer: no one split fits.

Two tasks of a network often share more of its lower layers than of its upper ones, and within a
layer some features and not others. Here both are dials: of the features in each layer, how many
are the same in all tasks.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.data.synthetic import (
    GAIN,
    SyntheticDataset,
    check_counts,
    hidden,
    reference_inputs,
    regressions,
    with_noise,
)
from mtlbook.errors import UsageError
from mtlbook.randomness import generator, standard_normal


def partly_shared_tasks(
    seed: int,
    *,
    tasks: Sequence[str],
    rows: int,
    inputs: int = 20,
    features: int = 4,
    common: Sequence[int] = (4, 2),
    noise: float = 0.5,
) -> SyntheticDataset:
    r"""Regressions on the same inputs whose layers of hidden features are partly the same.

    With $x \sim N(0, I)$ and layers $l = 1, 2, \dots$, of which the first $k_l$ features are common
    to all tasks,

    $$g_l = \tanh(g_{l-1} C_l), \quad o_{l,t} = \tanh([g_{l-1}, o_{l-1,t}]\, D_{l,t}), \quad
      y_t = [g_L, o_{L,t}]\, a_t / s_t + \sigma \varepsilon,$$

    where $g_0 = x$, the entries of $C_l$ and $D_{l,t}$ are $N(0, 4 / \text{rows of the matrix})$,
    those of $a_t$ and $\varepsilon$ are $N(0, 1)$, and $s_t$ gives the signal variance 1. A common
    feature depends on common features only, so that it is the same function of $x$ in all tasks.
    A network that is split behind layer $l$ fits where all features are common up to $l$ and none
    behind; with $k_l$ in between no split does.

    Arguments:
        seed: of everything drawn; a task's draws depend on its name, not on the other tasks.
        tasks: their names.
        rows: examples, each labelled for all tasks; the first rows are the same for any number.
        inputs: width of $x$.
        features: of each layer and task, common ones included.
        common: $k_1, k_2, \dots$, which cannot grow; all 0 is the negative control.
        noise: $\sigma$.

    Raises:
        UsageError: for numbers of common features that no network of this kind has.

    Example:
        >>> made = partly_shared_tasks(0, tasks=["a", "b"], rows=5, common=(4, 4))
        >>> [task.name for task in made.data.tasks], made.least_loss
        (['a', 'b'], {'a': 0.25, 'b': 0.25})
    """
    check_counts(rows=rows, inputs=inputs, features=features, tasks=len(tasks), layers=len(common))
    falling = all(below >= above for below, above in pairwise(common))
    if not (falling and common[-1] >= 0 and common[0] <= features):
        raise UsageError(
            f"common must fall from at most {features} features to at least 0, not be "
            f"{list(common)}: a common feature depends on common features only."
        )
    x = torch.cat(
        [
            standard_normal(generator(seed, "inputs"), rows, inputs),
            reference_inputs(seed, inputs),
        ]
    )
    noiseless, targets, heads = {}, {}, {}
    for name in tasks:
        shared = every = x
        for layer, count in enumerate(common, start=1):
            own = _next(every, features - count, seed, layer, name)
            shared = _next(shared, count, seed, layer, "common")
            every = torch.cat([shared, own], dim=1)
        heads[name] = standard_normal(generator(seed, "head", name), features, 1)[:, 0]
        signal = every @ heads[name]
        noiseless[name] = (signal[:rows] / signal[rows:].std())[:, None]
        targets[name] = with_noise(noiseless[name], noise, generator(seed, "noise", name))
    return SyntheticDataset(
        regressions(x[:rows], targets),
        noiseless,
        heads=heads,
        least_loss=dict.fromkeys(tasks, noise**2),
    )


def _next(
    below: Float[Tensor, "rows below"], count: int, seed: int, layer: int, owner: str
) -> Float[Tensor, "rows count"]:
    """The next layer's features of the common network, or of a task's own."""
    width = below.shape[1]
    source = generator(seed, "partly shared", layer, owner)
    matrix = standard_normal(source, max(width, 1), count)[:width]
    return hidden(below, GAIN / sqrt(max(width, 1)) * matrix)
