r"""Two moons and their turned copy, the domains of Ganin et al. (2016, figure 2), with dials."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mtlbook.book.data.shifted_digits import two_domains
from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.tasks import Task

MOON = Task.classification("moon", classes=2)
_ANGLE = math.radians(35)  # the paper's
_NOISE = 0.1


def two_moons(
    seed: int, *, shift: float = 1.0, label_shift: float = 0.0, rows: int = 300
) -> MultiTaskData:
    r"""Labelled points of two interleaved moons, and a turned copy as the target domain.

    With $t$ uniform between 0 and $\pi$ and noise of standard deviation 0.1,

    $$x = \pm(\cos t - \tfrac12,\; \sin t - \tfrac14) + \varepsilon,$$

    + for the upper moon (class 0) and − for the lower one: one is the other turned by half a turn
    about the origin. The target's points are turned about the origin by $s \cdot 35°$. With
    $\delta$ = `label_shift` the target's share of class 0 is $(1 - \delta) / 2$, the source's
    always one half, up to rounding. With both dials at 0 the domains are two draws of one
    distribution.

    Arguments:
        seed: of all points.
        shift: $s$, from 0 to 1.
        label_shift: $\delta$, from 0 to 1.
        rows: points in each domain.

    Returns:
        Source rows, then target rows, of 2 inputs, with the tasks `moon`, `domain` and
        `target_moon`, see `shifted_digits.two_domains`.

    Example:
        >>> data = two_moons(0, label_shift=0.5, rows=100)
        >>> data.targets["target_moon"][data.labelled["target_moon"]].bincount().tolist()
        [25, 75]
    """
    for name, value in (("shift", shift), ("label_shift", label_shift)):
        if not 0 <= value <= 1:
            raise UsageError(f"{name} must lie between 0 and 1, not at {value}.")
    if rows < 2:
        raise UsageError(f"rows must be at least 2, not {rows}.")
    source = _moons(seed, "source", rows, share=0.5)
    points, labels = _moons(seed, "target", rows, share=(1 - label_shift) / 2)
    return two_domains(source, (turned(points, shift * _ANGLE), labels), MOON)


def turned(points: Float[Tensor, "points 2"], angle: float) -> Float[Tensor, "points 2"]:
    """Points turned about the origin, anticlockwise, by an angle in radians."""
    cosine, sine = math.cos(angle), math.sin(angle)
    return points @ torch.tensor([[cosine, sine], [-sine, cosine]], dtype=points.dtype)


def _moons(
    seed: int, domain: str, rows: int, share: float
) -> tuple[Float[Tensor, "points 2"], Int[Tensor, " points"]]:
    source = generator(seed, "two moons", domain)
    angle = math.pi * torch.rand(rows, generator=source, dtype=torch.float64)
    noise = _NOISE * torch.randn(rows, 2, generator=source, dtype=torch.float64)
    labels = (torch.arange(rows) >= round(share * rows)).long()
    upper = torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], dim=1)
    return torch.where(labels[:, None] == 0, upper, -upper) + noise, labels
