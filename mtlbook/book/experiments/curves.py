"""What learning curves say: by the number of examples, and by the number of tasks."""

from collections.abc import Sequence
from math import exp, log

import numpy as np
from jaxtyping import Float
from sklearn.isotonic import IsotonicRegression

from mtlbook.errors import UsageError


def effective_sample_size(
    error: float, sizes: Sequence[int], curve: Float[np.ndarray, " sizes"]
) -> float:
    """The number of examples with which training alone reaches an error.

    Read from the learning curve of training alone, straight between its points in the logarithms of
    both (a power law is read exactly). Where the measured curve rises its points are first averaged
    to the nearest falling one (isotonic regression). Outside the curve nothing is made up: an error
    above its first point gives the first size, one below its last point the last size, which is
    then only a lower bound.

    Arguments:
        error: above 0, of joint training.
        sizes: numbers of examples, ascending.
        curve: the error of training alone with so many.

    Example:
        >>> sizes = [50, 100, 200, 400]
        >>> round(effective_sample_size(0.03, sizes, 6.0 / np.array(sizes)), 6)
        200.0
    """
    if error <= 0 or (curve <= 0).any():
        raise UsageError("Errors must be above 0: their logarithms are interpolated.")
    if len(sizes) != len(curve) or list(sizes) != sorted(set(sizes)):
        raise UsageError(f"The sizes {list(sizes)} must ascend, one for each point of the curve.")
    positions = np.log(np.asarray(sizes, dtype=np.float64))
    falling = IsotonicRegression(increasing=False).fit_transform(positions, np.log(curve))
    reached = np.flatnonzero(falling <= log(error))
    if not len(reached):
        return float(sizes[-1])
    at = int(reached[0])
    if at == 0:
        return float(sizes[0])
    # What is reached lies below its predecessor, so that this does not divide by 0.
    share = (falling[at - 1] - log(error)) / (falling[at - 1] - falling[at])
    return exp(positions[at - 1] + share * (positions[at] - positions[at - 1]))


def floor_and_slope(
    tasks: Sequence[int], errors: Float[np.ndarray, "counts seeds"]
) -> tuple[Float[np.ndarray, " seeds"], Float[np.ndarray, " seeds"]]:
    r"""The $a$ and $b$ of $a + b / K$ by least squares, for each seed its own.

    Least squares is linear in the errors: the mean of the seeds' constants are the constants of the
    seeds' mean curve, and resampling seeds (`mtlbook.statistics.interval`) resamples whole curves.

    Arguments:
        tasks: the numbers $K$ of tasks, at least two different ones.
        errors: a row for each $K$.

    Example:
        >>> a, b = floor_and_slope([1, 2, 4], np.array([[5.0], [3.0], [2.0]]))
        >>> a.round(6), b.round(6)
        (array([1.]), array([4.]))
    """
    if len(set(tasks)) < 2 or min(tasks) < 1:
        raise UsageError(f"A line in 1/K needs two different K of at least 1, not {list(tasks)}.")
    design = np.stack([np.ones(len(tasks)), 1 / np.asarray(tasks, dtype=np.float64)], axis=1)
    floor, slope = np.linalg.lstsq(design, errors, rcond=None)[0]
    return floor, slope
