"""UPGrad: each gradient is made to conflict with none, then their mean is taken."""

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.optimize import nnls

from mtlbook.balancing.rule import GramianRule
from mtlbook.balancing.solving import cosines, root


class UPGrad(GramianRule):
    """The mean of the tasks' gradients, each projected onto the dual cone {d: <g_t, d> ≥ 0 ∀ t}.

    Quinton and Rey (2024), definition 3: what is projected is nearest to g_i among all vectors
    along which no loss grows, and so no loss grows along their mean. Without conflict it is the
    mean of the gradients. A gradient times κ gives a projection times κ: larger losses count more.

    Arguments:
        tasks: the tasks, or their names, in the order of the losses.
        heads: whether heads follow their own losses, or the weighted ones.
    """

    def solve(self, gramian: Float[ndarray, "k k"]) -> Float[ndarray, " k"]:
        """The mean of the projections' weights."""
        return projections(gramian).mean(0)


def projections(gramian: Float[ndarray, "k k"]) -> Float[ndarray, "k k"]:
    """By row i the weights v of the projection of g_i: min_v vᵀGv with v ≥ e_i (their prop. 1).

    With v = e_i + z this is min ‖G^½ (e_i + z)‖² over z ≥ 0, a non-negative least-squares problem,
    solved in unit gradients. Rows that pivoting does not solve, as dependent gradients may have
    them, are solved one by one.
    """
    unit, norms = cosines(gramian)
    added, left = by_pivoting(unit)
    if len(left):
        factor = root(unit)
        for i in left:
            added[i], _ = nnls(factor, -factor[:, i])
    ratios = np.divide(norms[:, None], norms, out=np.zeros_like(unit), where=norms > 0)
    return np.eye(len(unit)) + added * ratios


def by_pivoting(
    unit: Float[ndarray, "k k"], rounds: int = 12, tolerance: float = 1e-9
) -> tuple[Float[ndarray, "k k"], Int[ndarray, " left"]]:
    """The z of all rows at once by block principal pivoting, and the rows that it leaves unsolved.

    Júdice and Pires (1994). What is looked for are the tasks that v adds to g_i, at which Gv = 0;
    at the others Gv ≥ 0. From the tasks that g_i conflicts with, each round solves for z and moves
    every task that is on the wrong side. No round is sure to come nearer, but a row counts as
    solved only where z ≥ 0, Gv ≥ 0 and zᵀGv = 0 hold to the tolerance.
    """
    solved = np.zeros_like(unit)
    # Where a gradient conflicts with none it is its own projection.
    unsolved: ndarray = np.any(unit < 0, axis=1)
    left = np.flatnonzero(unsolved)
    inside = unit[left] < 0
    for _ in range(rounds):
        if not len(left):
            break
        systems = np.where(inside[:, :, None] & inside[:, None, :], unit, np.eye(len(unit)))
        try:
            found = np.linalg.solve(systems, np.where(inside, -unit[left], 0)[..., None])[..., 0]
        except np.linalg.LinAlgError:  # one of them has dependent gradients
            break
        products = unit[left] + found @ unit
        wrong = np.where(inside, found < 0, products < -tolerance)
        settled = ~wrong.any(1)
        sure = settled & (np.abs(found * products) <= tolerance).all(1)
        solved[left[sure]], unsolved[left[sure]] = found[sure], False
        left, inside = left[~settled], (inside ^ wrong)[~settled]
    return solved, np.flatnonzero(unsolved)
