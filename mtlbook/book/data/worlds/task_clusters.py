r"""Home of task grouping (section 8.5): clusters of tasks, each with features of its own."""

from functools import partial

import torch
from torch import Tensor

from mtlbook.data.synthetic import (
    GAIN,
    SyntheticDataset,
    check_counts,
    check_noise,
    raw_signal,
    reference_inputs,
    regressions,
    unit_variance,
    with_noise,
)
from mtlbook.errors import UsageError
from mtlbook.randomness import generator, standard_normal


def task_clusters(
    seed: int,
    *,
    rows: int,
    tasks: int = 6,
    clusters: int = 2,
    inputs: int = 12,
    features: int = 4,
    noise: float = 0.3,
) -> SyntheticDataset:
    r"""Regressions on the same inputs; those of a cluster have the same features, others none.

    With $x \sim N(0, I)$, for tasks $t$ in clusters $c(t)$, which take turns,

    $$y_t = \tanh(2\, x Q_{c(t)})\, a_t / s_t + \sigma \varepsilon,$$

    where the columns of $Q_1, Q_2, \dots$ are columns of one random rotation, the entries of $a_t$
    and $\varepsilon$ are $N(0, 1)$, and $s_t$ gives the signal variance 1. What a task needs of the
    input is independent of what a task of another cluster needs.

    Arguments:
        seed: of everything drawn; a task's draws do not depend on how many tasks there are.
        rows: examples, each labelled for all tasks; the first rows are the same for any number.
        tasks: how many, named `task_1`, `task_2`, …; of two clusters the odd ones are in the first.
        clusters: how many. One takes the structure away (the control): all tasks are alike.
        inputs: width of $x$.
        features: of each cluster.
        noise: $\sigma$.

    Raises:
        UsageError: for more directions than inputs, or more clusters than tasks.

    Example:
        >>> made = task_clusters(0, rows=5)
        >>> first, second, third = (made.features[f"task_{n}"] for n in (1, 2, 3))
        >>> torch.equal(first, third), bool((first.T @ second).abs().max() < 1e-12)
        (True, True)
    """
    check_counts(rows=rows, tasks=tasks, clusters=clusters, inputs=inputs, features=features)
    check_noise(noise)
    if clusters > tasks:
        raise UsageError(f"There are {tasks} tasks for {clusters} clusters: ask for fewer.")
    if clusters * features > inputs:
        raise UsageError(
            f"{clusters} clusters with {features} features each need {clusters * features} "
            f"orthogonal directions, and there are {inputs} inputs: ask for more inputs."
        )
    drawn = standard_normal(generator(seed, "directions"), inputs, inputs)
    rotation, upper = torch.linalg.qr(drawn)
    directions = GAIN * rotation * upper.diagonal().sign()
    x = standard_normal(generator(seed, "inputs"), rows, inputs)
    reference = reference_inputs(seed, inputs)
    noiseless: dict[str, Tensor] = {}
    matrices, heads, targets = {}, {}, {}
    for number in range(1, tasks + 1):
        name, first = f"task_{number}", (number - 1) % clusters * features
        matrix = directions[:, first : first + features]
        head = standard_normal(generator(seed, "head", number), features, 1)[:, 0]
        signal = partial(raw_signal, matrix=matrix, head=head)
        noiseless[name] = unit_variance(signal, x, reference)
        targets[name] = with_noise(noiseless[name], noise, generator(seed, "noise", number))
        matrices[name], heads[name] = matrix, head
    return SyntheticDataset(
        regressions(x, targets),
        noiseless,
        matrices,
        heads,
        least_loss=dict.fromkeys(targets, noise**2),
    )
