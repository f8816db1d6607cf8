"""Combiners: how the losses, or the gradients, of several tasks become one update.

Weighting losses and balancing gradients are one operation. With g_t = ∇L_t the gradient of task t
by the shared parameters, both take the step along Σ_t w_t g_t; they differ in what w is computed
from: the losses alone (`mtlbook.weighting`), or the inner products of the g_t, which are their
Gramian matrix (`mtlbook.balancing`). A combiner says what it needs, receives it as `Evidence`, and
returns w.

Everything acts on the last axis (a Gramian: on the last two) and takes any axes before it, one
replica of a training each; a plain loop has none. Training several seeds at once, `fit` calls
`Combiner.replicated`, so that each seed has parameters, state and random numbers of its own.
"""

from abc import abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.tasks import Task


@dataclass(frozen=True)
class Evidence:
    """What a step knows when its weights are chosen; no gradient flows through any of it.

    Attributes:
        losses: of the step's batch, before `Combiner.transform`.
        labelled: which tasks have a label in the batch.
        progress: the part of the training that is done, from 0 to 1.
        gramian: <∇φ_i, ∇φ_j> of the transformed losses φ, where `Combiner.gramian_at` says.
        cross: <∇L_i(θ; batch), ∇L_j(θ'; stream)> over all parameters, for `Combiner.looks_ahead`.
    """

    losses: Float[Tensor, "*replicas tasks"]
    labelled: Bool[Tensor, "*replicas tasks"]
    progress: float = 0.0
    gramian: Float[Tensor, "*replicas tasks tasks"] | None = None
    cross: Float[Tensor, "*replicas tasks others"] | None = None


@dataclass(frozen=True)
class LookAhead:
    """A virtual step, after which a second stream of data is looked at.

    θ' = θ - step_size Σ_t w_t ∇L_t(θ; batch), with w the combiner's `virtual_weights()` and θ all
    trained parameters of the model.

    Attributes:
        stream: the name of the second stream; the tasks' losses on a batch of it give
            `Evidence.cross`.
        step_size: of the virtual step; 0 for a second batch at the same parameters.
    """

    stream: str
    step_size: float


class Combiner(nn.Module):
    """Maps task losses to the loss that is minimised, by weights that a rule chooses each step.

    Here the rule is uniform weights, L = Σ_t L_t; subclasses override `weigh` or `transform`. What
    a rule remembers are buffers, so that `state_dict` holds all of it. In evaluation mode nothing
    is remembered.

    Arguments:
        tasks: the tasks, or their names, in the order of the losses.

    Attributes:
        tasks: their names. `fit` hands over losses in this order.
        gramian_at: the parameters whose gradients' Gramian `weigh` needs: all that more than one
            task reaches ("shared"), the last weight among them ("last"), or none.
        heads: whether the parameters of a single task follow its weighted loss or its own
            (transformed, but not weighted) one. The combiner's trained parameters go with them.
        losses_after: whether `after` wants the losses of the same batch after the step.
        looks_ahead: the virtual step and second stream that `weigh` needs.

    Raises:
        UsageError: for no tasks, or two of one name.
    """

    tasks: tuple[str, ...]
    gramian_at: Literal["shared", "last"] | None = None
    heads: Literal["weighted", "own"] = "weighted"
    losses_after: bool = False
    looks_ahead: LookAhead | None = None

    def __init__(self, tasks: Sequence[Task | str]) -> None:
        super().__init__()
        self.tasks = tuple(task if isinstance(task, str) else task.name for task in tasks)
        if not self.tasks:
            raise UsageError(f"{type(self).__name__} needs at least one task: give the tasks.")
        if len(set(self.tasks)) < len(self.tasks):
            raise UsageError(
                f"{type(self).__name__} tells tasks by their names, and {list(self.tasks)} holds "
                "one twice: give each task once."
            )

    def transform(
        self, losses: Float[Tensor, "*replicas tasks"]
    ) -> Float[Tensor, "*replicas tasks"]:
        """φ_t(L_t), what is weighted in the place of L_t: differentiable, each task on its own."""
        return losses

    def weigh(self, evidence: Evidence) -> Float[Tensor, "*replicas tasks"]:
        """The weights w of the transformed losses, without a gradient; may update the state.

        A task without a label has weight 0, and what is in its place in the evidence is ignored.
        """
        return evidence.labelled.to(evidence.losses)

    def after(self, before: Evidence, losses: Float[Tensor, "*replicas tasks"]) -> None:
        """Update the state by the losses of the same batch after the step."""

    def virtual_weights(self) -> Float[Tensor, "*replicas tasks"]:
        """The weights of the virtual step of `looks_ahead`."""
        raise NotImplementedError

    def forward(
        self, losses: Float[Tensor, "*replicas tasks"], evidence: Evidence | None = None
    ) -> Float[Tensor, "*replicas"]:
        """The loss that is minimised, Σ_t w_t φ_t(L_t) over the tasks that have a label.

        Arguments:
            losses: one a task.
            evidence: what the weights are chosen from; by default the losses, all labelled.

        Raises:
            UsageError: where the rule needs more than losses and no evidence is given.
        """
        if evidence is None:
            self._check_losses_suffice()
            labelled = torch.ones_like(losses, dtype=torch.bool)
            evidence = Evidence(losses.detach(), labelled)
        # Any number at which transformations are finite: nothing reaches an unlabelled task.
        known = torch.where(evidence.labelled, losses, 1)
        weights = self.weigh(evidence).detach().where(evidence.labelled, 0)
        return (weights * self.transform(known)).sum(-1)

    def _check_losses_suffice(self) -> None:
        if self.gramian_at is not None:
            raise UsageError(
                f"{type(self).__name__} weighs by the tasks' gradients, which losses alone do not "
                "give: in a loop of your own call mtlbook.balancing.backward.backward in the place "
                "of loss.backward()."
            )
        if self.looks_ahead is not None:
            raise UsageError(
                f"{type(self).__name__} looks ahead to the stream {self.looks_ahead.stream!r}, "
                "which losses alone do not give: pass evidence with the cross-Gramian."
            )

    def replicated(self, seeds: Sequence[int]) -> "Combiner":
        """A copy whose parameters, buffers and random numbers are one per seed, on a first axis.

        What a replica does depends on its seed alone, whatever seeds are beside it.
        """
        copy = deepcopy(self)
        for module in copy.modules():
            for name, values in module.named_parameters(recurse=False):
                stacked = _repeated(values, len(seeds))
                module.register_parameter(name, nn.Parameter(stacked, values.requires_grad))
            for name, values in module.named_buffers(recurse=False):
                module._buffers[name] = _repeated(values, len(seeds))
            if isinstance(module, RandomCombiner):
                module.seed.copy_(torch.tensor(list(seeds)))
        return copy

    def replica(self, number: int) -> "Combiner":
        """A copy of one replica of a replicated combiner, for a plain loop: without its axis."""
        copy = deepcopy(self)
        for module in copy.modules():
            for name, values in module.named_parameters(recurse=False):
                own = values.detach()[number].clone()
                module.register_parameter(name, nn.Parameter(own, values.requires_grad))
            for name, values in module.named_buffers(recurse=False):
                module._buffers[name] = values[number].clone()
        return copy


class RandomCombiner(Combiner):
    """A combiner that draws: the numbers of a step are a function of its seed and the step alone.

    Arguments:
        tasks: the tasks, or their names, in the order of the losses.
        seed: of its random numbers; `replicated` replaces it by each replica's own.

    Attributes:
        purpose: keeps its numbers apart from all others of the same seed.
    """

    purpose: ClassVar[str]
    seed: Int[Tensor, "*replicas"]
    draws: Int[Tensor, "*replicas"]

    def __init__(self, tasks: Sequence[Task | str], seed: int = 0) -> None:
        super().__init__(tasks)
        self.register_buffer("seed", torch.tensor(seed))
        self.register_buffer("draws", torch.tensor(0))

    @abstractmethod
    def weigh(self, evidence: Evidence) -> Float[Tensor, "*replicas tasks"]:
        """The weights, from `sources` and the evidence."""

    def sources(self) -> list[torch.Generator]:
        """The generator of this step's numbers for each replica, in order; one in a plain loop."""
        pairs = zip(self.seed.flatten().tolist(), self.draws.flatten().tolist(), strict=True)
        found = [generator(seed, self.purpose, draw) for seed, draw in pairs]
        if self.training:
            self.draws += 1
        return found


def _repeated(values: Tensor, times: int) -> Tensor:
    return values.detach().expand(times, *values.shape).clone()
