"""MGDA, the multiple-gradient descent algorithm: the shortest vector between the gradients."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.optimize import nnls

from mtlbook.balancing.rule import GramianRule
from mtlbook.balancing.solving import cosines, root


class MGDA(GramianRule):
    """The weights a of min ‖Σ_t a_t g_t‖² with a ≥ 0 and Σ_t a_t = 1.

    Désidéri (2012); Sener and Koltun (2018), equation 3. The combined gradient d has <g_t, d> ≥
    ‖d‖² for every task: no task is made worse by a small step, and d = 0 only where the parameters
    are Pareto stationary. Orthogonal gradients have a_t ∝ 1 / ‖g_t‖²: the task with the smallest
    gradient decides, and where one gradient is 0, so is d.

    Arguments:
        tasks: the tasks, or their names, in the order of the losses.
        heads: whether heads follow their own losses, or the weighted ones as in the authors' code.
    """

    def solve(self, gramian: Float[ndarray, "k k"]) -> Float[ndarray, " k"]:
        """The weights a."""
        return min_norm_weights(gramian)


def min_norm_weights(gramian: Float[ndarray, "k k"]) -> Float[ndarray, " k"]:
    """min_a aᵀGa with a ≥ 0 and Σa = 1, by one non-negative least-squares problem.

    Scaled so that it has the sum 1, the minimiser of ‖G^½ a‖² + (1ᵀa - 1)² over a ≥ 0 is the
    solution: along each ray the best value depends on aᵀGa / (1ᵀa)² alone, and grows with it.
    Solved for b_t = a_t ‖g_t‖.
    """
    unit, norms = cosines(gramian)
    stationary = norms == 0
    if stationary.any():
        return stationary / stationary.sum()
    # In units of the shortest gradient, which the minimum cannot exceed.
    inverse = norms.min() / norms
    factor = root(unit)
    solution, _ = nnls(np.vstack([factor, inverse]), np.append(np.zeros(len(factor)), 1.0))
    weights = solution * inverse
    return weights / weights.sum()
