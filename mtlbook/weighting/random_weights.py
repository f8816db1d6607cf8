"""Random loss weighting: new random weights at each step, the control of all other rules."""

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.combiner import Evidence, RandomCombiner
from mtlbook.randomness import standard_normal


class RandomWeights(RandomCombiner):
    """w = softmax(z), z_t ~ N(0, 1) anew at each step: positive, of sum 1 and mean 1 / K.

    Lin, Ye, Zhang and Tsang (2022), section 3. In the mean over steps it minimises Σ_t L_t / K:
    with plain gradient descent, learning rates are K times those of the sum of losses.
    """

    purpose = "random loss weights"

    def weigh(self, evidence: Evidence) -> Float[Tensor, "*replicas tasks"]:
        """The weights of this step, over the tasks that have a label."""
        drawn = [standard_normal(source, len(self.tasks)) for source in self.sources()]
        exponents = torch.stack(drawn).view(evidence.losses.shape).to(evidence.losses)
        return exponents.masked_fill(~evidence.labelled, -torch.inf).softmax(-1).nan_to_num(nan=0.0)
