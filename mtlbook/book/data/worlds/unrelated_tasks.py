r"""Home of separate networks (section 6.9): tasks that compete, each for directions of its own.

What one task reads of the input is noise to every other. There is nothing to share, and a common
representation has to find room for all of it.
"""

from functools import partial

import torch

from mtlbook.data.synthetic import (
    GAIN,
    SyntheticDataset,
    check_counts,
    check_noise,
    raw_signal,
    reference_inputs,
    regressions,
    shared_count,
    unit_variance,
    with_noise,
)
from mtlbook.errors import UsageError
from mtlbook.randomness import generator, standard_normal


def unrelated_tasks(
    seed: int,
    *,
    rows: int,
    tasks: int = 4,
    overlap: float = 0.0,
    inputs: int = 20,
    features: int = 4,
    noise: float = 0.3,
) -> SyntheticDataset:
    r"""Regressions on the same inputs whose features look along orthogonal directions.

    With $x \sim N(0, I)$, for tasks $t = 1, 2, \dots$

    $$h_t(x) = \tanh(2\, x Q_t), \qquad y_t = h_t(x)\, a_t / s_t + \sigma \varepsilon,$$

    where the columns of $Q_1, Q_2, \dots$ are columns of one random rotation, those of a task and
    of different tasks orthogonal to each other, but for the share $\rho$ of each task's that is
    common to all; the entries of $a_t$ and $\varepsilon$ are $N(0, 1)$, and $s_t$ gives the signal
    variance 1. The inputs' projections on $Q_t$ are independent of those on $Q_u$: with $\rho = 0$
    no task says anything about what another needs. With $\rho = 1$ all have the same features,
    which takes the conflict away (the control).

    Arguments:
        seed: of everything drawn; a task's draws do not depend on how many tasks there are.
        rows: examples, each labelled for all tasks; the first rows are the same for any number.
        tasks: how many, named `task_1`, `task_2`, ….
        overlap: the dial $\rho$, a multiple of 1 / `features` between 0 and 1.
        inputs: width of $x$.
        features: of each task.
        noise: $\sigma$.

    Raises:
        UsageError: for more directions than inputs.

    Example:
        >>> made = unrelated_tasks(0, rows=5, tasks=2)
        >>> overlap = made.features["task_1"].T @ made.features["task_2"]
        >>> bool(overlap.abs().max() < 1e-12)
        True
    """
    check_counts(rows=rows, tasks=tasks, inputs=inputs, features=features)
    check_noise(noise)
    common = shared_count(overlap, features, "features")
    own = features - common
    needed = common + tasks * own
    if needed > inputs:
        raise UsageError(
            f"{tasks} tasks with {own} features of their own and {common} common ones need "
            f"{needed} orthogonal directions, and there are {inputs} inputs: ask for fewer tasks "
            "or features, or for more inputs."
        )
    drawn = standard_normal(generator(seed, "directions"), inputs, inputs)
    rotation, upper = torch.linalg.qr(drawn)
    # Signs by the draw and not by the library: a rotation that is uniform.
    directions = rotation * upper.diagonal().sign()
    x = standard_normal(generator(seed, "inputs"), rows, inputs)
    reference = reference_inputs(seed, inputs)
    noiseless, matrices, heads, targets = {}, {}, {}, {}
    for number in range(1, tasks + 1):
        name, first = f"task_{number}", common + (number - 1) * own
        columns = [*range(common), *range(first, first + own)]
        matrix = GAIN * directions[:, columns]
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
