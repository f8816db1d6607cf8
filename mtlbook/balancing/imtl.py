"""IMTL, impartial multi-task learning: trained loss scales, and a step that favours no gradient."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from mtlbook.balancing.rule import GramianRule
from mtlbook.balancing.solving import cosines, weights_by
from mtlbook.combiner import Evidence
from mtlbook.weighting.impartial_scaling import IMTLL


class IMTL(IMTLL):
    """IMTL's hybrid: losses e^{s_t} L_t - s_t, and equal projections of d on their gradients.

    Liu, Li, Kuang, Xue, Chen, Yang, Liao and Zhang (2021). IMTL-L (their section 3.2) trains s_t
    on the scaled losses, which ends at e^{s_t} = 1 / L_t, where each scaled loss is 1; so do the
    heads. IMTL-G (section 3.1) gives the shared parameters d = Σ_t a_t g_t with <u_t, d> equal for
    all unit gradients u_t and Σ_t a_t = 1, from the Gramian of the scaled losses.

    **Guarded.** With more than two tasks Σ_t a_t = 1 can put d at the wrong side, where every loss
    grows, or far away. See `equal_projection_weights`.

    Arguments:
        tasks: the tasks, or their names, in the order of the losses.
        dtype: of s, by default PyTorch's own default; `fit` gives it that of the model.

    Attributes:
        log_scales: s, trained, 0 at the start.
    """

    gramian_at = "shared"
    heads = "own"

    def weigh(self, evidence: Evidence) -> Float[Tensor, "*replicas tasks"]:
        """The weights a of each replica."""
        return weights_by(equal_projection_weights, evidence, self)


class IMTLG(GramianRule):
    """IMTL-G alone: <u_t, d> equal for all unit gradients u_t, the losses unscaled.

    Liu et al. (2021), section 3.1; guarded as `equal_projection_weights` says. A loss times κ
    leaves the direction as it is. Orthogonal gradients have a_t ∝ 1 / ‖g_t‖.
    """

    def solve(self, gramian: Float[ndarray, "k k"]) -> Float[ndarray, " k"]:
        """The weights a."""
        return equal_projection_weights(gramian)


def equal_projection_weights(gramian: Float[ndarray, "k k"]) -> Float[ndarray, " k"]:
    """The weights a = G⁻¹n / 1ᵀG⁻¹n, n the norms: d projects on each unit gradient alike.

    In unit gradients, with C their Gramian and b = C⁻¹1, the direction Σ_t b_t u_t projects on each
    of them with 1, and a_t ∝ b_t / n_t. Its length is where the rule goes wrong: Σ_t b_t / n_t, by
    which a is divided, may be 0 or negative although each projection on the direction is positive.
    Here the direction keeps its sign, and no projection is longer than the longest gradient; with
    two tasks, or weights that are not negative, neither ever matters.

    Gradients that depend on each other linearly have no inverse: the pseudo-inverse then gives
    the weights whose projections are nearest to equal. A task whose gradient is 0 takes no part.
    """
    direction, _, norms = equal_projections(gramian)
    inverse = np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0)
    if not inverse.any():
        return inverse
    projection = min(1 / max(abs(direction @ inverse), np.finfo(float).tiny), norms.max())
    return projection * direction * inverse


def equal_projections(
    gramian: Float[ndarray, "k k"],
) -> tuple[Float[ndarray, " k"], Float[ndarray, " k"], Float[ndarray, " k"]]:
    """The weights b = C⁺1 of unit gradients, the projections Cb of those on Σ_t b_t u_t, the norms.

    The projections are 1 but where gradients depend on each other, or are 0.
    """
    unit, norms = cosines(gramian)
    present = norms > 0
    weights = np.zeros_like(norms)
    own = unit[np.ix_(present, present)]
    weights[present] = np.linalg.pinv(own, rcond=1e-12, hermitian=True).sum(1)
    return weights, unit @ weights, norms
