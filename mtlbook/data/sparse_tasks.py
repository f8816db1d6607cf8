r"""Synthetic linear regressions: sparse coefficients with a dial for shared features.

Beside them coefficients of low rank. Each task has inputs of its own. Everything is float64 and
drawn per `(seed, purpose)`: fewer rows are the first rows of more, and turning a dial changes
nothing but what it turns.
"""

from collections.abc import Callable
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.data.synthetic import (
    SyntheticDataset,
    check_counts,
    normal,
    regressions,
    shared_count,
    with_noise,
)
from mtlbook.errors import UsageError
from mtlbook.randomness import generator, standard_normal


def sparse_tasks(
    seed: int,
    *,
    tasks: int = 2,
    rows: int,
    features: int = 64,
    support: int = 6,
    overlap: float = 1.0,
    values: str = "equal",
    noise: float = 0.5,
) -> SyntheticDataset:
    r"""Regressions on a few features each, of which a share κ is the same for all tasks.

    With $x \sim N(0, I)$, for tasks $t = 0, 1, \dots$

    $$y_t = x^\top w_t + \sigma \varepsilon, \qquad
      w_t = \sum_{k=0}^{s-1} v_{kt}\, e_{\pi(k)} \text{ for } k < \kappa s
      \quad\text{and}\quad v_{kt}\, e_{\pi(ts + k)} \text{ for } k \ge \kappa s,$$

    where $\pi$ is a random order of the features, so that the features with $k \ge \kappa s$ are
    one task's alone. The values are $v_{kt} = \pm 1$, each sign as likely, independent between
    tasks, or $v_{kt} \sim N(0, 1)$. It is the set-up of Jalali, Ravikumar, Sanghavi and Ruan (*A
    dirty model for multi-task learning*, 2010, section 4), who have two tasks and
    $s \approx p / 10$. With κ = 1 all tasks use the same features, with κ = 0 no two tasks share
    one (the negative control).

    Arguments:
        seed: of everything drawn; a further task leaves the earlier ones as they were.
        tasks: how many.
        rows: examples of each task.
        features: p.
        support: s, how many features each task uses; `tasks` times that many must exist.
        overlap: the dial κ, between 0 and 1, at a multiple of 1 / s.
        values: "equal" magnitudes, or "gaussian".
        noise: σ.
    """
    check_counts(tasks=tasks, rows=rows, features=features, support=support)
    if tasks * support > features:
        raise UsageError(
            f"{tasks} tasks that share nothing use {tasks} · {support} features, of which there "
            f"are {features}: lower tasks or support, or raise features."
        )
    shared = shared_count(overlap, support, "features")
    if values not in _VALUES:
        raise UsageError(f"values must be one of {', '.join(_VALUES)}, not {values!r}.")
    order = torch.randperm(features, generator=generator(seed, "order of features"))
    coefficients = torch.zeros(features, tasks, dtype=torch.float64)
    for task in range(tasks):
        used = torch.arange(support)
        used[shared:] += task * support
        drawn = _VALUES[values](support, generator(seed, "values", values, task))
        coefficients[order[used], task] = drawn
    return _observed(seed, coefficients, rows, noise)


def low_rank_tasks(
    seed: int,
    *,
    tasks: int = 10,
    rows: int,
    features: int = 20,
    rank: int = 2,
    noise: float = 0.5,
) -> SyntheticDataset:
    r"""Regressions whose coefficients lie in one low-dimensional space.

    With $x \sim N(0, I)$,

    $$y_t = x^\top w_t + \sigma \varepsilon, \qquad W = \sqrt{T / k}\; U V^\top,$$

    where $U$ (features × k) and $V$ (tasks × k) are random matrices with orthonormal columns. So W
    has k singular values, all equal, and the signal has variance 1 on average over the tasks. The
    dial is the rank k: with k = 1 all tasks want the same direction; with k = T the coefficients
    of any two tasks are orthogonal, and nothing is common to them (the negative control).

    Arguments:
        seed: of everything drawn. Unlike the sparse tasks' coefficients these depend on how many
            tasks there are.
        tasks: how many, T.
        rows: examples of each task.
        features: p.
        rank: the dial k, at most T and p.
        noise: σ.
    """
    check_counts(tasks=tasks, rows=rows, features=features, rank=rank)
    if rank > min(tasks, features):
        raise UsageError(
            f"rank can be at most the number of tasks, {tasks}, and of features, {features}, "
            f"not {rank}."
        )
    directions = _orthonormal(features, rank, generator(seed, "directions"))
    mixtures = _orthonormal(tasks, rank, generator(seed, "mixtures"))
    coefficients = sqrt(tasks / rank) * directions @ mixtures.T
    return _observed(seed, coefficients, rows, noise)


def _orthonormal(rows: int, columns: int, source: torch.Generator) -> Float[Tensor, "rows columns"]:
    return torch.linalg.qr(normal(source, rows, columns))[0]


def _signs(count: int, source: torch.Generator) -> Float[Tensor, " count"]:
    return 2 * torch.randint(2, (count,), generator=source).double() - 1


def _gaussians(count: int, source: torch.Generator) -> Float[Tensor, " count"]:
    return torch.randn(count, generator=source, dtype=torch.float64)


_VALUES: dict[str, Callable[[int, torch.Generator], Tensor]] = {
    "equal": _signs,
    "gaussian": _gaussians,
}


def _observed(
    seed: int, coefficients: Float[Tensor, "features tasks"], rows: int, noise: float
) -> SyntheticDataset:
    inputs, noiseless, heads, targets = {}, {}, {}, {}
    for number, own in enumerate(coefficients.T, start=1):
        name = f"task_{number}"
        inputs[name] = standard_normal(generator(seed, "inputs", number), rows, len(own))
        heads[name], noiseless[name] = own, (inputs[name] @ own)[:, None]
        targets[name] = with_noise(noiseless[name], noise, generator(seed, "noise", number))
    return SyntheticDataset(regressions(inputs, targets), noiseless, heads=heads)
