r"""Home of deep relationship networks (section 6.1): two clusters of tasks, of opposite sign."""

from functools import partial
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
    check_shares,
    mixed,
    raw_signal,
    reference_inputs,
    regressions,
    unit_variance,
    with_noise,
)
from mtlbook.errors import UsageError
from mtlbook.randomness import generator, standard_normal
from mtlbook.tasks import Task


def signed_clusters(
    seed: int,
    *,
    rows: int,
    tasks: int = 6,
    correlation: float = 0.9,
    opposed: int | None = None,
    inputs: int = 10,
    features: int = 8,
    noise: float = 0.5,
) -> SyntheticDataset:
    r"""Regressions on common features whose heads correlate inside two clusters, and between.

    With $x \sim N(0, I)$, for tasks $t = 1, 2, \dots$ of the cluster with the sign $s_t = 1$ or
    $s_t = -1$

    $$h(x) = \tanh(x B), \quad
      a_t = s_t \sqrt{\rho}\, a + \sqrt{1 - \rho}\, a_t^{\text{own}}, \quad
      y_t = h(x)\, a_t / c_t + \sigma \varepsilon,$$

    where the entries of $B$ are $N(0, 4/\text{inputs})$, those of $a$, $a_t^{\text{own}}$ and
    $\varepsilon$ are $N(0, 1)$, and $c_t$ is the standard deviation of $h(x)\, a_t$: the heads are
    $N(0, \Sigma_3)$ over the tasks, with the correlation $\rho$ inside a cluster and $-\rho$
    between the clusters, `task_correlations`. The best possible mean squared error is $\sigma^2$.
    At $\rho = 0$ the heads are unrelated (the negative control): only the features are common.

    Arguments:
        seed: of everything drawn; a task's draws do not depend on how many tasks there are.
        rows: examples of each task, which no other task has; the first are the same for any number.
        tasks: how many, named `task_1`, `task_2`, ….
        correlation: the dial $\rho$, between 0 and 1.
        opposed: how many of them, the last ones, have the sign −1; by default half.
        inputs: width of $x$.
        features: width of $h$.
        noise: $\sigma$.
    """
    check_counts(rows=rows, tasks=tasks, inputs=inputs, features=features)
    check_shares(correlation=correlation)
    check_noise(noise)
    signs = cluster_signs(tasks, opposed)
    matrix = _matrix(seed, inputs, features)
    common = standard_normal(generator(seed, "head"), features, 1)[:, 0]
    reference = reference_inputs(seed, inputs)
    x, noiseless, heads, targets = {}, {}, {}, {}
    for number, sign in enumerate(signs.tolist(), start=1):
        name = f"task_{number}"
        own = standard_normal(generator(seed, "head", "task", number), features, 1)[:, 0]
        heads[name] = mixed(correlation, sign * common, own)
        x[name] = standard_normal(generator(seed, "inputs", number), rows, inputs)
        signal = partial(raw_signal, matrix=matrix, head=heads[name])
        noiseless[name] = unit_variance(signal, x[name], reference)
        targets[name] = with_noise(noiseless[name], noise, generator(seed, "noise", number))
    return SyntheticDataset(
        regressions(x, targets),
        noiseless,
        features=dict.fromkeys(heads, matrix),
        heads=heads,
        least_loss=dict.fromkeys(heads, noise**2),
    )


def source_task(
    seed: int, *, rows: int, outputs: int = 8, inputs: int = 10, features: int = 8
) -> SyntheticDataset:
    r"""One regression, `source`, on the features of `signed_clusters`: what a trunk learns first.

    Its heads are unrelated to those of the clusters' tasks, its inputs are rows of its own, and it
    has no noise: its features are all that it can teach, as ImageNet's are in the paper.

    Arguments:
        seed: that of the clusters, whose $B$ it has.
        rows: its examples.
        outputs: how many numbers it predicts, each by a head of its own.
        inputs: as for the clusters.
        features: as for the clusters.
    """
    check_counts(rows=rows, outputs=outputs, inputs=inputs, features=features)
    matrix = _matrix(seed, inputs, features)
    head = standard_normal(generator(seed, "head", "source"), features, outputs)
    x = standard_normal(generator(seed, "inputs", "source"), rows, inputs)
    signal = partial(raw_signal, matrix=matrix, head=head)
    target = unit_variance(signal, x, reference_inputs(seed, inputs))
    task = Task.regression("source", outputs=outputs)
    return SyntheticDataset(
        MultiTaskData.multi_label([task], x, {"source": target}),
        {"source": target},
        features={"source": matrix},
        heads={"source": head},
        least_loss={"source": 0.0},
    )


def _matrix(seed: int, inputs: int, features: int) -> Float[Tensor, "inputs features"]:
    source = generator(seed, "features")
    return GAIN / sqrt(inputs) * standard_normal(source, inputs, features)


def cluster_signs(tasks: int, opposed: int | None = None) -> Float[Tensor, " tasks"]:
    """1 for the first tasks, −1 for the opposed ones, by default half.

    Example:
        >>> cluster_signs(4, opposed=1)
        tensor([ 1.,  1.,  1., -1.], dtype=torch.float64)
    """
    against = tasks // 2 if opposed is None else opposed
    if not 0 <= against <= tasks:
        raise UsageError(
            f"opposed counts tasks: it must lie between 0 and all {tasks}, not at {against}."
        )
    return torch.tensor([1.0] * (tasks - against) + [-1.0] * against, dtype=torch.float64)


def task_correlations(
    tasks: int = 6, correlation: float = 0.9, opposed: int | None = None
) -> Float[Tensor, "tasks tasks"]:
    """The true Σ_3: 1 on the diagonal, ρ inside a cluster, −ρ between the clusters.

    Example:
        >>> task_correlations(3, 0.9, opposed=1)
        tensor([[ 1.0000,  0.9000, -0.9000],
                [ 0.9000,  1.0000, -0.9000],
                [-0.9000, -0.9000,  1.0000]], dtype=torch.float64)
    """
    signs = cluster_signs(tasks, opposed)
    own = torch.eye(tasks, dtype=torch.float64)
    return correlation * torch.outer(signs, signs) + (1 - correlation) * own
