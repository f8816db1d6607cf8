"""IMTL-L: trained scales that bring every loss to 1."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtlbook.combiner import Combiner
from mtlbook.tasks import Task


class IMTLL(Combiner):
    """Σ_t e^{s_t} L_t - s_t, with s_t trained beside the model.

    Liu, Li, Kuang, Xue, Chen, Yang, Liao and Zhang (2021), section 3.2. For fixed losses the
    minimum lies at e^{s_t} = 1 / L_t, where the value is Σ_t (1 + log L_t). In s' = -s it is twice
    the uncertainty weighting of regressions. `mtlbook.balancing.imtl` joins it with IMTL-G.

    Arguments:
        tasks: the tasks, or their names, in the order of the losses.
        dtype: of s, by default PyTorch's own default; `fit` gives it that of the model.

    Attributes:
        log_scales: s, trained, 0 at the start.
    """

    log_scales: Float[Tensor, "*replicas tasks"]

    def __init__(self, tasks: Sequence[Task | str], dtype: torch.dtype | None = None) -> None:
        super().__init__(tasks)
        self.log_scales = nn.Parameter(torch.zeros(len(self.tasks), dtype=dtype))

    def transform(
        self, losses: Float[Tensor, "*replicas tasks"]
    ) -> Float[Tensor, "*replicas tasks"]:
        """e^{s_t} L_t - s_t."""
        s = self.log_scales.to(losses)
        return torch.exp(s) * losses - s
