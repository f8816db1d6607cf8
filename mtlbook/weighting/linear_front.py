r"""What fixed weights can reach: linear regressions that share one unit.

K regressions on the same inputs share one linear unit, whose outputs have the direction z (of
length 1), and each has a weight on it. With ŷ_t the task's own least-squares fit, divided by its
length,

    u_t(z) = 1 - (ŷ_tᵀ z)²

is the share of what could be explained that is not. z lies in the span of the fits: K numbers and,
for three tasks, a point on a sphere. For fixed weights, min_z Σ_t w_t u_t(z) has as its solution
the first eigenvector of Σ_t w_t ŷ_t ŷ_tᵀ, and no other local minimum. Which trade-offs that reaches
is known: with fewer units than tasks the feasible losses form several surfaces, and fixed weights
leave out parts of their Pareto front (Hu, Xian, Wu, Fan, Yin and Zhao, 2023).

With as many units as tasks there is no trade-off, and nothing to weigh.
"""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mtlbook.errors import UsageError

# On the sphere and among the weights: neighbours differ by about 0.03 in u.
POINTS = 4000


def unit_fits(
    inputs: Float[Tensor, "rows inputs"], targets: Float[Tensor, "rows tasks"]
) -> Float[Tensor, "tasks tasks"]:
    """The tasks' least-squares fits, of length 1, as rows in coordinates of their own span.

    Arguments:
        inputs: a constant input is added.
        targets: a column a task.

    Raises:
        UsageError: where the fits do not span as many directions as there are tasks.

    Example:
        >>> fits = unit_fits(torch.eye(5).double(), torch.eye(5).double()[:, :3])
        >>> torch.round(fits @ fits.T, decimals=2)[0]
        tensor([ 1.0000, -0.2500, -0.2500], dtype=torch.float64)
    """
    centred = inputs - inputs.mean(0)
    fitted = centred @ torch.linalg.lstsq(centred, targets, driver="gelsd").solution
    lengths = fitted.norm(dim=0)
    correlations = fitted.T @ fitted / torch.outer(lengths, lengths)
    values, vectors = torch.linalg.eigh(correlations)
    if not float(values[0]) > 1e-9:
        raise UsageError(
            "The tasks' fits do not span as many directions as there are tasks: leave out a task "
            "that is a combination of others, or one that the inputs do not explain."
        )
    return vectors * values.sqrt()


def unexplained(
    directions: Float[Tensor, "*points tasks"], fits: Float[Tensor, "tasks tasks"]
) -> Float[Tensor, "*points tasks"]:
    """u_t(z) of each direction."""
    unit = directions / directions.norm(dim=-1, keepdim=True)
    return 1 - (unit @ fits.T).square()


def reached_by_weights(
    fits: Float[Tensor, "tasks tasks"], weights: Float[Tensor, "*points tasks"]
) -> Float[Tensor, "*points tasks"]:
    """The direction of the least Σ_t w_t u_t: the first eigenvector of Σ_t w_t ŷ_t ŷ_tᵀ.

    Example:
        >>> reached_by_weights(torch.eye(3), torch.tensor([0.2, 0.5, 0.3])).abs()
        tensor([0., 1., 0.])
    """
    products = torch.einsum("...t,ti,tj->...ij", weights, fits, fits)
    return torch.linalg.eigh(products).eigenvectors[..., -1]


def weights_of_three(points: int = POINTS) -> Float[Tensor, "points 3"]:
    """Weights of three tasks in an even triangular grid, at least as many as asked for."""
    steps = math.ceil(math.sqrt(2 * points))
    grid = [(i, j, steps - i - j) for i in range(steps + 1) for j in range(steps + 1 - i)]
    return torch.tensor(grid, dtype=torch.float64) / steps


def sphere(points: int = POINTS) -> Float[Tensor, "points 3"]:
    """Directions spread evenly over a half-sphere: z and -z are the same (Fibonacci's lattice)."""
    number = torch.arange(points, dtype=torch.float64) + 0.5
    height = number / points
    angle = number * math.pi * (3 - math.sqrt(5))
    radius = (1 - height.square()).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin(), height], dim=1)


def undominated(losses: Float[Tensor, "points tasks"]) -> Bool[Tensor, " points"]:
    """The points than which no other is at least as good on every task and better on one."""
    order = losses.sum(1).argsort()
    values = losses[order].numpy()
    keep = np.ones(len(values), dtype=bool)
    # A point is only dominated by one of a smaller sum: those that are out need not be asked.
    for number in range(len(values)):
        if keep[number]:
            own = values[number]
            later = values[number + 1 :]
            beaten = (later >= own).all(1) & (later > own).any(1)
            keep[number + 1 :] &= ~beaten
    found = torch.zeros(len(values), dtype=torch.bool)
    found[order] = torch.from_numpy(keep)
    return found


def leaves_a_gap(fits: Float[Tensor, "3 3"]) -> bool:
    """Whether fixed weights leave out part of the front of three tasks that share one unit.

    By the sign of the product of the three off-diagonal entries of the inverse of the fits'
    correlations, which does not change where a task's target changes its sign: positive leaves a
    gap, which may be narrow. A sign that is checked against the computed front in the tests, and
    not proven here.
    """
    inverse = torch.linalg.inv(fits @ fits.T)
    return bool(inverse[0, 1] * inverse[0, 2] * inverse[1, 2] > 0)
