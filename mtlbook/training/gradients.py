"""From the losses of a step to the gradients of all trials' replicas, by their combiners."""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mtlbook.balancing.backward import backward
from mtlbook.balancing.task_gradients import task_gradients
from mtlbook.combiner import Combiner, Evidence
from mtlbook.errors import UsageError
from mtlbook.training.replicas import State

# The losses of a batch of a stream at parameters by name.
LossesOf = Callable[[str, Mapping[str, Tensor]], Float[Tensor, "replicas tasks"]]


class Combiners:
    """The combiners of all trials, each on its own replicas.

    Combiners branch on data, so they act on the stacked losses and Gramians, outside `vmap`.

    Arguments:
        given: of each trial; None adds the losses.
        names: of the losses, in their order.
        seeds: of each trial's replicas.
        device, dtype: of the training.

    Attributes:
        of_trials: the replicated combiners, also of trials where none was given.
        given: where one was given.

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
        # Those that take the same gradients are combined in one go, and where none takes any comes
        # last, as its backward pass may let go of the graph.
        kinds = [(own.gramian_at or "", own.heads) for own in plain]
        numbers = sorted(range(len(plain)), key=kinds.__getitem__, reverse=True)
        self._groups = [
            _OfTrials(names, self.of_trials, list(members), len(seeds))
            for _, members in groupby(numbers, key=kinds.__getitem__)
        ]

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
            losses: just stacked from a loss a task, with their graph.
            labelled: which losses the step is about.
            penalty: of each replica, added after the combination.
            parameters: the model's trained ones, stacked.
            progress: the share of the training that is done.
            losses_of: the losses of another stream's batch.
        """
        if not any(self.given):
            total = losses.sum() if penalty is None else losses.sum() + penalty.sum()
            total.backward()
            return
        if penalty is not None:
            penalty.sum().backward(retain_graph=True)
        for place, group in enumerate(self._groups):
            group.evidence = backward(
                losses,
                parameters.values(),
                group,
                labelled=labelled & group.members(labelled),
                progress=progress,
                cross=self._cross(group, losses, parameters, losses_of),
                retain_graph=place < len(self._groups) - 1,
            )

    def after(self, losses: Float[Tensor, "replicas tasks"]) -> None:
        """Tell the combiners the losses of the same batch after the step."""
        for group in self._groups:
            if group.evidence is not None:
                group.after(group.evidence, losses)

    def _cross(
        self,
        group: "_OfTrials",
        losses: Float[Tensor, "replicas tasks"],
        parameters: Mapping[str, Tensor],
        losses_of: LossesOf,
    ) -> Float[Tensor, "replicas tasks others"] | None:
        """<∇L_i(θ), ∇L_j(θ')> for combiners that look ahead, θ' behind their virtual steps."""
        ahead = group.looks_ahead
        if ahead is None:
            return None
        here = task_gradients(losses, parameters.values(), retain_graph=True)
        step = here.combine(ahead.step_size * group.virtual_weights())
        there = {
            name: (values.detach() - moved).requires_grad_()
            for (name, values), moved in zip(parameters.items(), step, strict=True)
        }
        return here.cross(task_gradients(losses_of(ahead.stream, there), there.values()))


class _OfTrials(Combiner):
    """Several trials' combiners as one, of all replicas; those of other trials are left out.

    Arguments:
        names: of the losses, in their order.
        combiners: of all trials.
        numbers: of the trials that belong to it.
        seeds: how many replicas a trial has.
    """

    def __init__(
        self, names: Sequence[str], combiners: Sequence[Combiner], numbers: list[int], seeds: int
    ) -> None:
        super().__init__(names)
        self._combiners, self._numbers, self._seeds = tuple(combiners), numbers, seeds
        self.own = nn.ModuleList(combiners[number] for number in numbers)
        first = combiners[numbers[0]]
        self.gramian_at, self.heads = first.gramian_at, first.heads
        looking = {combiners[number].looks_ahead for number in numbers}
        if len(looking) > 1:
            raise UsageError(
                "Combiners that look ahead differently cannot be trials of one search: call fit "
                "for each."
            )
        (self.looks_ahead,) = looking
        self._orders = [[self.tasks.index(name) for name in own.tasks] for own in combiners]
        self._backs = [[own.tasks.index(name) for name in self.tasks] for own in combiners]
        self.evidence: Evidence | None = None

    def members(self, like: Bool[Tensor, "replicas tasks"]) -> Bool[Tensor, "replicas tasks"]:
        """Which replicas belong to its trials."""
        marks = torch.zeros_like(like)
        for number in self._numbers:
            marks[number * self._seeds : (number + 1) * self._seeds] = True
        return marks

    def _part(self, number: int, values: Tensor) -> Tensor:
        """A trial's replicas, and the losses in its combiner's order."""
        own = values[number * self._seeds : (number + 1) * self._seeds]
        return own[:, self._orders[number]]

    def _evidence(self, number: int, evidence: Evidence) -> Evidence:
        order, gramian, cross = self._orders[number], evidence.gramian, evidence.cross
        return Evidence(
            self._part(number, evidence.losses),
            self._part(number, evidence.labelled),
            evidence.progress,
            None if gramian is None else self._part(number, gramian)[..., order],
            None if cross is None else self._part(number, cross)[..., order],
        )

    def _whole(self, parts: Mapping[int, Tensor], rest: Tensor) -> Tensor:
        """All trials' parts one after another, in the order of the losses; of others the rest."""
        pieces = list(rest.split(self._seeds))
        for number, own in parts.items():
            pieces[number] = own[:, self._backs[number]]
        return torch.cat(pieces)

    def transform(self, losses: Float[Tensor, "replicas tasks"]) -> Float[Tensor, "replicas tasks"]:
        """Each trial's own transformed losses."""
        own = {n: self._combiners[n].transform(self._part(n, losses)) for n in self._numbers}
        return self._whole(own, losses)

    def weigh(self, evidence: Evidence) -> Float[Tensor, "replicas tasks"]:
        """Each trial's own weights."""
        own = {n: self._combiners[n].weigh(self._evidence(n, evidence)) for n in self._numbers}
        return self._whole(own, torch.zeros_like(evidence.losses))

    def virtual_weights(self) -> Float[Tensor, "replicas tasks"]:
        """Each trial's own virtual weights."""
        own = {number: self._combiners[number].virtual_weights() for number in self._numbers}
        first = next(iter(own.values()))
        rest = first.new_zeros(len(self._combiners) * self._seeds, first.shape[1])
        return self._whole(own, rest)

    def after(self, before: Evidence, losses: Float[Tensor, "replicas tasks"]) -> None:
        """Tell each trial's combiner its losses after the step."""
        for number in self._numbers:
            combiner = self._combiners[number]
            if combiner.losses_after:
                combiner.after(self._evidence(number, before), self._part(number, losses))
