"""Adam with its state in buffers: the optimiser of weights that are not trained with the model."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class Adam(nn.Module):
    """Adam (Kingma and Ba, 2015, algorithm 1) for one vector of values, each on its own.

    As buffers, its moments are replicated and saved with the combiner that holds them. A value
    that does not take part in a step keeps its moments and its own count of steps.

    Arguments:
        size: number of values.
        learning_rate: of each step.
        betas: decay of the first and the second moment.
        epsilon: added to the root of the second moment.
    """

    first: Float[Tensor, "*replicas size"]
    second: Float[Tensor, "*replicas size"]
    steps: Float[Tensor, "*replicas size"]

    def __init__(
        self,
        size: int,
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        super().__init__()
        self.learning_rate, self.betas, self.epsilon = learning_rate, betas, epsilon
        for name in ("first", "second", "steps"):
            self.register_buffer(name, torch.zeros(size))

    def forward(
        self, gradient: Float[Tensor, "*replicas size"], where: Bool[Tensor, "*replicas size"]
    ) -> Float[Tensor, "*replicas size"]:
        """What is added to the values, 0 where they do not take part; updates the moments."""
        a, b = self.betas
        gradient = gradient.to(self.first)
        self.steps += where
        self.first.copy_(torch.where(where, a * self.first + (1 - a) * gradient, self.first))
        self.second.copy_(
            torch.where(where, b * self.second + (1 - b) * gradient.square(), self.second)
        )
        steps = self.steps.clamp(min=1)
        mean, scale = self.first / (1 - a**steps), (self.second / (1 - b**steps)).sqrt()
        return torch.where(where, -self.learning_rate * mean / (scale + self.epsilon), 0)
