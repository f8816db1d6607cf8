"""Nash-MTL: the step on which the tasks would agree in Nash's bargaining game."""

from collections.abc import Sequence
from typing import Literal

from mtlbook.balancing.fairgrad import FairGrad
from mtlbook.tasks import Task


class NashMTL(FairGrad):
    """The weights w > 0 with Gw = 1 / w, elementwise.

    Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik and Fetaya (2022), claim 3.1:
    d = Σ_t w_t g_t maximises Σ_t log <g_t, d> in a ball. A loss times κ has its weight divided by
    κ and leaves d as it is; ‖d‖² is the number of tasks whatever the gradients are, and so the
    learning rate alone says how long a step is. Orthogonal gradients have w_t = 1 / ‖g_t‖.

    Solved to its end at every step. The authors' code stops at 20 rounds of a sequential
    approximation, keeps the last weights where that fails, and clips the combined gradient to 1.

    Arguments:
        tasks: the tasks, or their names, in the order of the losses.
        heads: whether heads follow their own losses, or the weighted ones.
    """

    def __init__(
        self, tasks: Sequence[Task | str], heads: Literal["weighted", "own"] = "own"
    ) -> None:
        super().__init__(tasks, fairness=1.0, heads=heads)
