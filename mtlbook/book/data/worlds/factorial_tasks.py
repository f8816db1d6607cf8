r"""Home of what auxiliary tasks help (section 7.9): eight tasks of a factorial plan."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.data.synthetic import (
    SyntheticDataset,
    check_counts,
    check_noise,
    check_shares,
    reference_inputs,
    with_noise,
)
from mtlbook.randomness import generator, standard_normal
from mtlbook.tasks import Task

INPUTS, CLASSES = 40, 4
SHARES = {True: (0.25, 0.25, 0.25, 0.25), False: (0.05, 0.05, 0.05, 0.85)}
"""The shares of the four classes, from the lowest to the highest part of the latent number."""


@dataclass(frozen=True)
class Levels:
    """What a task of the plan is like.

    Attributes:
        common: whether it looks in the common direction of the inputs, or in one of its own.
        uniform: whether its four classes are equally frequent (an entropy of log 4, 1.386 nats), or
            one of them has 85 % of the rows (0.588 nats).
        noisy: whether its latent number has the larger noise.
        large: whether it has many training labels, or few.
    """

    common: bool
    uniform: bool
    noisy: bool
    large: bool


def plan() -> dict[str, Levels]:
    """Half of the sixteen combinations: those in which an even number of the four is true.

    A fraction of resolution four: each property is balanced against each other one, and no main
    effect is aliased with a product of two.

    Example:
        >>> plan()["task_8"], len(plan())
        (Levels(common=True, uniform=True, noisy=True, large=True), 8)
    """
    kept = [on for on in product((False, True), repeat=4) if sum(on) % 2 == 0]
    return {f"task_{number}": Levels(*on) for number, on in enumerate(kept, start=1)}


def factorial_tasks(
    seed: int,
    *,
    rows: int,
    tasks: Mapping[str, Levels] | None = None,
    common: float = 1.0,
    noise: tuple[float, float] = (0.3, 0.8),
) -> SyntheticDataset:
    r"""Classifications into four classes, parts of a latent number $u_t + \sigma_t \varepsilon$.

    $u_t = s_t \, (\sqrt{c} \, w_0 + \sqrt{1 - c} \, w_t)^\top x$ for tasks with the common
    direction $w_0$, and $u_t = s_t \, w_t^\top x$ for the others, with $x \sim N(0, I)$ of 40
    inputs, unit vectors $w_t$ orthogonal to $w_0$, and a random sign $s_t$. Where classes are
    unequal, the rare ones are the lowest numbers.

    Arguments:
        seed: of everything drawn; a task's draws depend on its name alone.
        rows: examples, each labelled for all tasks; how many labels are kept for training is a
            matter of the split.
        tasks: what each is like; default: `plan()`.
        common: $c$, the dial; 0 is the negative control, tasks with nothing in common but inputs.
        noise: $\sigma$ of tasks with little and with much noise.

    Raises:
        UsageError: for no task, a $c$ outside 0 to 1, or a noise that is none.

    Example:
        >>> made = factorial_tasks(0, rows=5)
        >>> len(made.data.tasks), made.data.inputs.shape
        (8, torch.Size([5, 40]))
    """
    tasks = plan() if tasks is None else tasks
    check_counts(rows=rows, tasks=len(tasks))
    check_shares(common=common)
    for one in noise:
        check_noise(one)
    inputs = standard_normal(generator(seed, "factorial", "inputs"), rows, INPUTS)
    reference = reference_inputs(seed, INPUTS, "factorial")
    targets, noiseless, heads, least = {}, {}, {}, {}
    for name, levels in tasks.items():
        heads[name] = _direction(seed, name, common if levels.common else 0.0)
        signal, known = inputs @ heads[name], reference @ heads[name]
        sigma = noise[levels.noisy]
        latent = with_noise(signal, sigma, generator(seed, "factorial", name, "noise"))
        drawn = with_noise(known, sigma, generator(seed, "factorial", name, "reference noise"))
        ends = torch.tensor(SHARES[levels.uniform], dtype=torch.float64).cumsum(0)[:-1]
        cuts = torch.quantile(drawn, ends)
        targets[name] = torch.bucketize(latent, cuts)
        noiseless[name] = signal
        least[name] = _mean_entropy(known, cuts, sigma)
    made = [Task.classification(name, classes=CLASSES) for name in tasks]
    data = MultiTaskData.multi_label(made, inputs, targets)
    return SyntheticDataset(data, noiseless=noiseless, heads=heads, least_loss=least)


def _direction(seed: int, name: str, share: float) -> Float[Tensor, " inputs"]:
    """The unit vector s (√c w_0 + √(1 − c) w_t)."""
    first, own = (
        standard_normal(generator(seed, "factorial", owner, "direction"), INPUTS)
        for owner in ("common", name)
    )
    first = first / first.norm()
    own = own - (own @ first) * first
    sign = 1 if torch.rand(1, generator=generator(seed, "factorial", name, "sign")) < 0.5 else -1
    return sign * (sqrt(share) * first + sqrt(1 - share) * own / own.norm())


def _mean_entropy(
    signal: Float[Tensor, " rows"], cuts: Float[Tensor, " cuts"], sigma: float
) -> float:
    """The mean entropy of the class given the input, in nats."""
    if sigma == 0:
        return 0.0
    below = torch.special.ndtr((cuts - signal[:, None]) / sigma)
    edges = torch.zeros_like(below[:, :1]), below, torch.ones_like(below[:, :1])
    return float(torch.special.entr(torch.cat(edges, dim=1).diff(dim=1).clamp(min=0)).sum(1).mean())
