r"""Section 4.3, a target about which a hint is true as far as a dial says."""

from math import sqrt

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.data.synthetic import (
    SyntheticDataset,
    check_counts,
    check_noise,
    check_shares,
    normal,
    regressions,
)
from mtlbook.randomness import generator


def odd_target(
    seed: int, *, rows: int, inputs: int = 6, even_part: float = 0.0, noise: float = 0.5
) -> SyntheticDataset:
    r"""A regression whose target is odd and increasing in every input, as far as a dial says.

    With $x \sim N(0, I)$ and $a$ a vector of length 1 without negative entries,

    $$y = \sqrt{1 - \delta^2}\, \frac{\tanh(2u)}{s} + \delta\, \frac{u^2 - 1}{\sqrt 2}
          + \sigma \varepsilon, \qquad u = x^\top a,$$

    where $s^2$ is the variance of $\tanh(2u)$. The two parts have variance 1 and are uncorrelated:
    the signal has variance 1 for every $\delta$. At $\delta = 0$ the target is odd and increasing.
    Otherwise no odd function has a mean squared error below $\sigma^2 + \delta^2$, where a function
    that is free has $\sigma^2$: this is what the hint costs that is not true.

    Arguments:
        seed: of everything drawn.
        rows: examples.
        inputs: width of $x$.
        even_part: the dial $\delta$, between 0 and 1.
        noise: $\sigma$.

    Returns:
        A data set with the task `value`, whose only feature is $u$.
    """
    check_counts(rows=rows, inputs=inputs)
    check_shares(even_part=even_part)
    check_noise(noise)
    direction = 0.2 + _uniform(inputs, 1, generator(seed, "direction"))
    direction /= direction.norm()
    x = normal(generator(seed, "inputs"), rows, inputs)
    u = x @ direction
    odd, even = torch.tanh(2 * u) / _spread_of_odd_part(), (u.square() - 1) / sqrt(2)
    signal = sqrt(1 - even_part**2) * odd + even_part * even
    value = signal + noise * normal(generator(seed, "noise"), rows, 1)
    data = regressions(x, {"value": value})
    head = torch.ones(1, 1, dtype=torch.float64)
    return SyntheticDataset(data, {"value": signal}, {"value": direction}, {"value": head})


def _spread_of_odd_part() -> float:
    """The standard deviation of tanh(2u) for u ~ N(0, 1), by Gauss and Hermite's quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    return sqrt(float(weights @ np.tanh(2 * nodes) ** 2 / weights.sum()))


def _uniform(rows: int, columns: int, source: torch.Generator) -> Float[Tensor, "rows columns"]:
    return torch.rand(rows, columns, generator=source, dtype=torch.float64)
