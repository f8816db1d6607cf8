r"""Home of tensor factorisation (section 6.7): every layer of a task mixes few common ones.

No two tasks have a layer in common, so that no split of one network fits them; what they have in
common is the few matrices that their layers are mixtures of.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.data.synthetic import (
    GAIN,
    SyntheticDataset,
    check_counts,
    check_noise,
    hidden,
    reference_inputs,
    with_noise,
)
from mtlbook.errors import UsageError
from mtlbook.randomness import generator, standard_normal
from mtlbook.tasks import Task

TASKS = 8


def low_rank_mixtures(
    seed: int,
    *,
    rows: int,
    tasks: int = TASKS,
    bases: int = 3,
    apart: int = 0,
    inputs: int = 30,
    widths: Sequence[int] = (3,),
    noise: float = 0.3,
) -> SyntheticDataset:
    r"""Regressions `task_1`, …, on the same inputs, by networks whose layers are low-rank mixtures.

    With $x \sim N(0, I)$ and layers $l = 1, \dots, L$, of which the last has one output,

    $$W_{l,t} = \sum_{k=1}^K S_{l,kt} B_{l,k}, \quad h_{l,t} = \tanh(h_{l-1,t} W_{l,t}), \quad
      y_t = h_{L-1,t} W_{L,t} / s_t + \sigma \varepsilon,$$

    where $h_0 = x$, the entries of $B_{l,k}$ are $N(0, 4 / \text{rows of the matrix})$, those of
    $\varepsilon$ are $N(0, 1)$, and $s_t$ gives the signal variance 1. The layers of the first $K$
    tasks are the bases; the columns of $S_l$ for the others are $|N(0, 1)|$, scaled to length 1.
    With $K$ = tasks no two tasks have anything in common, which is the negative control.

    Arguments:
        seed: of everything drawn.
        rows: examples, each labelled for all tasks; the first rows are the same for any number.
        tasks: how many.
        bases: $K$, from 1 (all tasks are the same) to the number of tasks.
        apart: how many rows, from the first on, carry the label of one task only, in turn: a
            training part in which each task has examples of its own.
        inputs: width of $x$.
        widths: of the hidden layers.
        noise: $\sigma$.

    Raises:
        UsageError: for more bases than tasks, more rows apart than rows, and counts below 1.

    Example:
        >>> made = low_rank_mixtures(0, rows=5, tasks=3, bases=2)
        >>> [task.name for task in made.data.tasks], made.least_loss["task_1"]
        (['task_1', 'task_2', 'task_3'], 0.09)
    """
    check_counts(rows=rows, tasks=tasks, bases=bases, inputs=inputs, layers=len(widths))
    check_counts(width=min(widths))
    check_noise(noise)
    if bases > tasks:
        raise UsageError(
            f"{bases} bases cannot be the layers of the first of {tasks} tasks: ask for at most "
            f"{tasks}."
        )
    if not 0 <= apart <= rows:
        raise UsageError(f"apart counts some of the {rows} rows: it cannot be {apart}.")
    x = torch.cat(
        [
            standard_normal(generator(seed, "inputs"), rows, inputs),
            reference_inputs(seed, inputs),
        ]
    )
    sizes = [inputs, *widths, 1]
    layers = [
        _mixtures(seed, place, below, above, tasks, bases)
        for place, (below, above) in enumerate(pairwise(sizes), start=1)
    ]
    noiseless, targets, heads, features = {}, {}, {}, {}
    for number in range(tasks):
        name = f"task_{number + 1}"
        own = [layer[..., number] for layer in layers]
        signal = x
        for matrix in own[:-1]:
            signal = hidden(signal, matrix)
        signal = signal @ own[-1]
        features[name], heads[name] = own[0], own[-1][:, 0]
        noiseless[name] = signal[:rows] / signal[rows:].std()
        targets[name] = with_noise(noiseless[name], noise, generator(seed, "noise", name))
    place = torch.arange(rows)
    labelled = {
        name: (place >= apart) | (place % tasks == number) for number, name in enumerate(targets)
    }
    every = [Task.regression(name) for name in targets]
    return SyntheticDataset(
        MultiTaskData.partial(every, x[:rows], targets, labelled),
        {name: own[labelled[name]] for name, own in noiseless.items()},
        features=features,
        heads=heads,
        least_loss=dict.fromkeys(targets, noise**2),
    )


def _mixtures(
    seed: int, layer: int, below: int, above: int, tasks: int, bases: int
) -> Float[Tensor, "below above tasks"]:
    """The matrices of one layer, one a task."""
    purpose = "low-rank mixtures", layer
    drawn = standard_normal(generator(seed, *purpose, "bases"), bases, below * above)
    each = GAIN / sqrt(below) * drawn.T.reshape(below, above, bases)
    weights = standard_normal(generator(seed, *purpose, "mixing"), tasks - bases, bases).abs()
    mixing = torch.cat([torch.eye(bases, dtype=torch.float64), weights]).T
    return each @ (mixing / mixing.norm(dim=0))
