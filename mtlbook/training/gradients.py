"""From the losses of a step to the gradients of all trials' replicas, by their combiners."""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mtlbook.balancing.task_gradients import shared_parameters, task_gradients
from mtlbook.combiner import Combiner, Evidence
from mtlbook.errors import UsageError
from mtlbook.training.replicas import State

LossesOf = Callable[[str, Mapping[str, Tensor] | None], Float[Tensor, "replicas tasks"]]


class Combiners:
    """The combiners of all trials, each on its own replicas.

    Combiners branch on data, so they act on the stacked losses and Gramians, outside `vmap`.

    Arguments:
        given: of each trial; None adds the losses.
        names: of the losses, in their order.
        seeds: of each trial's replicas.
        device, dtype: of the training.

    Raises:
        UsageError: for a combiner of other losses than these.
    """

    def __init__(
        self,
        given: Sequence[Combiner | None],
        names: Sequence[str],
        seeds: Sequence[int],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.given = [own is not None for own in given]
        plain = [Combiner(names) if own is None else own for own in given]
        for own in plain:
            if sorted(own.tasks) != sorted(names):
                raise UsageError(
                    f"{type(own).__name__} combines the losses of {list(own.tasks)}, and the "
                    f"training has those of {list(names)}: name the same ones."
                )
        self.of_trials = [own.replicated(seeds).to(device, dtype) for own in plain]
        self._seeds, self._names = len(seeds), tuple(names)
        self._orders = [[self._names.index(name) for name in own.tasks] for own in plain]
        self._backs = [[own.tasks.index(name) for name in self._names] for own in plain]
        self._evidence: list[Evidence] = []

    @property
    def trained(self) -> list[State]:
        """The trained parameters of each trial's combiner, by name."""
        return [
            {name: own for name, own in combiner.named_parameters() if own.requires_grad}
            for combiner in self.of_trials
        ]

    @property
    def look_after(self) -> bool:
        """Whether a combiner wants the losses of the same batch after the step."""
        return any(own.losses_after for own in self.of_trials)

    def _part(self, trial: int, values: Tensor) -> Tensor:
        """A trial's replicas, and the losses in its combiner's order."""
        rows = values[trial * self._seeds : (trial + 1) * self._seeds]
        return rows[:, self._orders[trial]]

    def backward(
        self,
        losses: Float[Tensor, "replicas tasks"],
        labelled: Bool[Tensor, "replicas tasks"],
        penalty: Float[Tensor, " replicas"] | None,
        parameters: Mapping[str, Tensor],
        progress: float,
        losses_of: LossesOf,
    ) -> None:
        """Set the gradient of every parameter, those of the combiners too.

        Arguments:
            losses: with their graph.
            labelled: which losses the step is about.
            penalty: of each replica, added after the combination.
            parameters: the model's trained ones, stacked.
            progress: the share of the training that is done.
            losses_of: the losses on a batch of another stream, at given parameters.
        """
        if not any(self.given):
            total = losses.sum() if penalty is None else losses.sum() + penalty.sum()
            total.backward()
            return
        transformed = torch.cat(
            [
                own.transform(self._part(trial, torch.where(labelled, losses, 1)))[
                    :, self._backs[trial]
                ]
                for trial, own in enumerate(self.of_trials)
            ]
        )
        shared = self._shared(transformed, parameters)
        gramians = self._gramians(transformed, shared)
        self._evidence = [
            Evidence(
                losses=self._part(trial, losses.detach()),
                labelled=self._part(trial, labelled),
                progress=progress,
                gramian=self._own_gramian(trial, gramians),
                cross=self._cross(trial, losses, parameters, losses_of),
            )
            for trial in range(len(self.of_trials))
        ]
        weights = torch.cat([self._weights(trial, bool(shared)) for trial in self._numbers])
        of_heads = torch.cat(
            [
                own if combiner.heads == "weighted" else known.to(own)
                for combiner, own, known in zip(
                    self.of_trials,
                    weights.split(self._seeds),
                    labelled.split(self._seeds),
                    strict=True,
                )
            ]
        )
        total = (of_heads * transformed).sum()
        if penalty is not None:
            total = total + penalty.sum()
        if shared and any(own.heads == "own" for own in self.of_trials):
            # What several tasks use takes the step of the weights, all else that of its own loss.
            difference = ((weights - of_heads) * transformed).sum()
            extra = torch.autograd.grad(difference, shared, retain_graph=True)
            total.backward()
            for values, own in zip(shared, extra, strict=True):
                assert values.grad is not None
                values.grad += own
        else:
            total.backward()

    @property
    def _numbers(self) -> range:
        return range(len(self.of_trials))

    def _weights(self, trial: int, is_shared: bool) -> Float[Tensor, "seeds tasks"]:
        """A trial's weights; where tasks share no parameter there is no gradient to weigh."""
        combiner, evidence = self.of_trials[trial], self._evidence[trial]
        if combiner.gramian_at is not None and not is_shared:
            weights = torch.ones_like(evidence.losses)
        else:
            weights = combiner.weigh(evidence).detach()
        return weights.where(evidence.labelled, 0)[:, self._backs[trial]]

    def _shared(
        self, transformed: Float[Tensor, "replicas tasks"], parameters: Mapping[str, Tensor]
    ) -> list[Tensor]:
        """The parameters that more than one task reaches, where a combiner asks for them."""
        if all(own.gramian_at is None and own.heads == "weighted" for own in self.of_trials):
            return []
        return shared_parameters(transformed.unbind(1), list(parameters.values()))

    def _gramians(
        self, transformed: Float[Tensor, "replicas tasks"], shared: list[Tensor]
    ) -> dict[str, Float[Tensor, "replicas tasks tasks"]]:
        """The Gramians that combiners ask for, by where they are taken."""
        wanted = {own.gramian_at for own in self.of_trials} - {None}
        of = {"shared": shared, "last": shared[-1:]}
        losses = transformed.unbind(1)
        return {at: task_gradients(losses, of[at]).gramian for at in wanted if at and shared}

    def _own_gramian(
        self, trial: int, gramians: Mapping[str, Tensor]
    ) -> Float[Tensor, "seeds tasks tasks"] | None:
        at = self.of_trials[trial].gramian_at
        if at is None or at not in gramians:
            return None
        return self._part(trial, gramians[at])[..., self._orders[trial]]

    def after(self, losses: Float[Tensor, "replicas tasks"]) -> None:
        """Tell the combiners the losses of the same batch after the step."""
        for trial, (own, evidence) in enumerate(
            zip(self.of_trials, self._evidence, strict=True)
        ):
            if own.losses_after:
                own.after(evidence, self._part(trial, losses))
