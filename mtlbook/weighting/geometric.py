"""Scale-invariant losses: the tasks' geometric mean, and the sum of their logarithms."""

from jaxtyping import Float
from torch import Tensor

from mtlbook.combiner import Combiner, Evidence
from mtlbook.errors import UsageError


class SumOfLogarithms(Combiner):
    """Σ_t log L_t, whose gradient is Σ_t ∇L_t / L_t: a loss times κ leaves it as it is.

    The scale-invariant baseline of Nash-MTL and FAMO (Navon et al., 2022; Liu et al., 2023), and
    what uncertainty weighting and IMTL-L minimise once their scales are at their best.

    Raises:
        UsageError: in `forward`, for a loss that is not positive.
    """

    def transform(
        self, losses: Float[Tensor, "*replicas tasks"]
    ) -> Float[Tensor, "*replicas tasks"]:
        """The logarithms, log L_t."""
        return losses.log()

    def weigh(self, evidence: Evidence) -> Float[Tensor, "*replicas tasks"]:
        """1 for each task that has a label."""
        check_positive(self, evidence)
        return super().weigh(evidence)


class GeometricMean(Combiner):
    """(Π_t L_t)^(1/K), GLS: as the weights w_t = (Π_s L_s)^(1/K) / (K L_t) of the losses.

    Chennupati, Sistu, Yogamani and Rawashdeh (2019), equation 2. Its gradient has the direction of
    `SumOfLogarithms`; its length falls with the losses. Computed in logarithms: the raw product
    of many losses leaves the range of floating point.

    Raises:
        UsageError: in `forward`, for a loss that is not positive.
    """

    def weigh(self, evidence: Evidence) -> Float[Tensor, "*replicas tasks"]:
        """The weights w, over the tasks that have a label."""
        check_positive(self, evidence)
        known = evidence.labelled
        number = known.sum(-1, keepdim=True).clamp(min=1)
        logarithms = evidence.losses.where(known, 1).log()
        mean = logarithms.sum(-1, keepdim=True) / number
        return ((mean - logarithms).exp() / number).where(known, 0)


def check_positive(combiner: Combiner, evidence: Evidence) -> None:
    """Refuse a loss that has no logarithm, by its task's name.

    Raises:
        UsageError: for one that is 0 or negative; NaN, as of a diverged replica, passes.
    """
    wrong = (evidence.losses <= 0) & evidence.labelled
    if wrong.any():
        task = combiner.tasks[int(wrong.reshape(-1, wrong.shape[-1]).any(0).nonzero()[0])]
        raise UsageError(
            f"{type(combiner).__name__} takes the logarithm of each loss, and that of {task!r} is "
            f"{float(evidence.losses[wrong].min()):g}: give losses above 0, or add a constant."
        )
