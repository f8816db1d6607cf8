r"""Home of cross-stitch networks (section 6.3): related tasks, one with a tenth of the labels.

The tasks' features are alike and not the same. Where labels are few, those of the other task are
worth more than exact features of one's own; where they are many it is the other way round.
"""

from functools import partial

import torch

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.data.synthetic import (
    GAIN,
    SyntheticDataset,
    check_counts,
    check_noise,
    check_shares,
    mixed,
    raw_signal,
    reference_inputs,
    unit_variance,
    with_noise,
)
from mtlbook.errors import UsageError
from mtlbook.randomness import generator, standard_normal
from mtlbook.tasks import Task

TASKS = "few", "many"


def unequal_labels(
    seed: int,
    *,
    rows: int,
    held_out: int,
    ratio: int = 10,
    shared_features: float = 0.8,
    inputs: int = 20,
    features: int = 4,
    noise: float = 0.3,
) -> SyntheticDataset:
    r"""Two regressions on the same inputs, `few` and `many`, with unequal numbers of labels.

    With $x \sim N(0, I)$, for both tasks

    $$h_t(x) = \tanh(x B_t), \quad
      B_t = \sqrt{\rho}\, B + \sqrt{1 - \rho}\, B_t^{\text{own}}, \quad
      y_t = h_t(x)\, a_t / s_t + \sigma \varepsilon,$$

    where the entries of $B$ and $B_t^{\text{own}}$ are $N(0, 4 / \text{inputs})$, those of $a_t$
    and $\varepsilon$ are $N(0, 1)$, and $s_t$ gives the signal variance 1. Of the training rows all
    tell `many`, and the first of every `ratio` of them tells `few`.

    Arguments:
        seed: of everything drawn.
        rows: training rows.
        held_out: further rows, all labelled for both tasks, behind the training rows: split them
            by `Consecutive`.
        ratio: labels of `many` for each one of `few`; 1 gives both as many (the control).
        shared_features: $\rho$, between 0 and 1; with 0 no task can help another.
        inputs: width of $x$.
        features: width of $h$.
        noise: $\sigma$.

    Raises:
        UsageError: where `few` would have no label.

    Example:
        >>> made = unequal_labels(0, rows=100, held_out=50)
        >>> {name: int(own.sum()) for name, own in made.data.labelled.items()}
        {'few': 60, 'many': 150}
    """
    check_counts(rows=rows, ratio=ratio, inputs=inputs, features=features)
    check_counts(0, held_out=held_out)
    check_shares(shared_features=shared_features)
    check_noise(noise)
    if ratio > rows:
        raise UsageError(
            f"Of {rows} training rows one in {ratio} leaves the task 'few' without a label: ask "
            "for more rows or a smaller ratio."
        )
    total = rows + held_out
    x = standard_normal(generator(seed, "inputs"), total, inputs)
    reference = reference_inputs(seed, inputs)
    common = standard_normal(generator(seed, "features"), inputs, features)
    noiseless, matrices, heads, targets = {}, {}, {}, {}
    for name in TASKS:
        own = standard_normal(generator(seed, "features", name), inputs, features)
        matrices[name] = GAIN / inputs**0.5 * mixed(shared_features, common, own)
        heads[name] = standard_normal(generator(seed, "head", name), features, 1)[:, 0]
        signal = partial(raw_signal, matrix=matrices[name], head=heads[name])
        noiseless[name] = unit_variance(signal, x, reference)
        targets[name] = with_noise(noiseless[name], noise, generator(seed, "noise", name))
    place = torch.arange(total)
    every = torch.ones(total, dtype=torch.bool)
    labelled = {"few": (place >= rows) | (place % ratio == 0) & (place < rows // ratio * ratio)}
    data = MultiTaskData.partial(
        [Task.regression(name) for name in TASKS], x, targets, labelled | {"many": every}
    )
    return SyntheticDataset(
        data,
        {name: noiseless[name][data.labelled[name]] for name in TASKS},
        matrices,
        heads,
        least_loss=dict.fromkeys(TASKS, noise**2),
    )
