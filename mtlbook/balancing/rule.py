"""Rules that are a function of the Gramian alone: a solver, and the combiner around it."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from mtlbook.balancing.solving import weights_by
from mtlbook.combiner import Combiner, Evidence
from mtlbook.tasks import Task


class GramianRule(Combiner):
    """Weights that `solve` finds for each replica from the Gramian of its labelled tasks.

    Arguments:
        tasks: the tasks, or their names, in the order of the losses.
        heads: whether heads follow their own losses, or the weighted ones.
    """

    gramian_at = "shared"

    def __init__(
        self, tasks: Sequence[Task | str], heads: Literal["weighted", "own"] = "own"
    ) -> None:
        super().__init__(tasks)
        self.heads = heads

    def weigh(self, evidence: Evidence) -> Float[Tensor, "*replicas tasks"]:
        """The weights of each replica."""
        return weights_by(self.solve, evidence, self)

    @abstractmethod
    def solve(self, gramian: Float[ndarray, "k k"]) -> Float[ndarray, " k"]:
        """The weights from the Gramian of the tasks that have a label."""
