"""The optimisers of all trials, each on its own part of the stacked parameters."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtlbook.training.settings import Optimiser


class Optimisers:
    """One optimiser a trial, all on one set of stacked parameters.

    Arguments:
        model: the model's parameters by name, stacked over the replicas, a trial's after another's.
        combiners: each trial's trained parameters of its combiner by name, stacked over the seeds.
        makers: of each trial's optimiser.
        seeds: how many replicas each trial has.
    """

    def __init__(
        self,
        model: Mapping[str, Tensor],
        combiners: Sequence[Mapping[str, Tensor]],
        makers: Sequence[Optimiser],
        seeds: int,
    ) -> None:
        self._stacked = list(model.values())
        if len(makers) == 1:
            self._parts = [tuple(self._stacked)]
        else:
            # Views: a step on them changes the stacked parameters.
            parts = [values.detach().split(seeds) for values in self._stacked]
            self._parts = list(zip(*parts, strict=True))
        self._seeds = seeds
        self._own = [values for own in combiners for values in own.values()]
        self.of_trials = [
            make(
                [(f"model.{name}", values) for name, values in zip(model, part, strict=True)]
                + [(f"combiner.{name}", values) for name, values in own.items()]
            )
            for make, part, own in zip(makers, self._parts, combiners, strict=True)
        ]
        self._rates = [[group["lr"] for group in own.param_groups] for own in self.of_trials]

    @property
    def rate(self) -> float:
        """The learning rate now (of the first group of parameters, in the first trial)."""
        return self.of_trials[0].param_groups[0]["lr"]

    def set_rates(self, factor: float) -> None:
        """Make every learning rate a multiple of what it was at first."""
        for own, rates in zip(self.of_trials, self._rates, strict=True):
            for group, rate in zip(own.param_groups, rates, strict=True):
                group["lr"] = factor * rate

    def zero_grad(self) -> None:
        """Forget the gradients of the last step."""
        for values in (*self._stacked, *self._own):
            values.grad = None

    def step(self) -> None:
        """One step of every trial along the gradients of the stacked parameters."""
        if len(self._parts) > 1:
            self._hand_out_gradients()
        for optimiser in self.of_trials:
            optimiser.step()

    def clip(self, largest: float) -> None:
        """Shorten each replica's gradient to a largest norm."""
        present = [values.grad for values in self._stacked if values.grad is not None]
        squares = torch.stack([own.flatten(1).square().sum(1) for own in present]).sum(0)
        factors = (largest / squares.sqrt()).clamp(max=1)
        for own in present:
            own.mul_(factors.view(-1, *[1] * (own.ndim - 1)))

    def _hand_out_gradients(self) -> None:
        for values, *own in zip(self._stacked, *self._parts, strict=True):
            gradients = [None] * len(own) if values.grad is None else values.grad.split(self._seeds)
            for part, gradient in zip(own, gradients, strict=True):
                part.grad = gradient
