r"""Section 6.1, deep relationship networks: a prior learns how the tasks' layers are related.

Tasks share a trunk. Each layer of their own is stacked over the T tasks, 𝒲 of the shape D_1 × D_2 ×
T (features × outputs × tasks), and has a tensor-normal prior with a covariance for each axis (Long
and Wang, 2015, with matrices; Long, Cao, Wang and Yu, 2017; Ruder, 2017, section 6.1). With D =
D_1 D_2 T, what is minimised is the sum of the losses and, for each layer,

    ½ vec(𝒲)ᵀ (Σ_1 ⊗ Σ_2 ⊗ Σ_3)⁻¹ vec(𝒲) + ½ Σ_k (D / D_k) ln |Σ_k| .

Gradient steps on 𝒲 alternate with the minimum over one covariance after another (`flip_flop`),

    Σ_k ← (D_k / D) W_(k) (⊗_{j≠k} Σ_j)⁻¹ W_(k)ᵀ ,

W_(k) being the unfolding along axis k. Σ_3 relates the tasks, at *negative* correlations, too.
Σ = I is independent L2; Σ_3⁻¹ = a I + b (T I − 11ᵀ) is ½ a ‖𝒲‖² + `SquaredDistance(b / 2)`; a
linear model has its minimum in closed form (`kronecker_ridge`), which is MTRL (Zhang and Yeung,
2010) but for its update, (WᵀW)^½.

**A bound.** The minimum over weights *and* covariances is −∞: at 𝒲 → 0 and Σ → 0, and with a fixed
trace still where all tasks become collinear. `bounded` fixes each trace at D_k, as MTRL does at 1,
and mixes in a share of the identity, below which no eigenvalue falls. The strength then sets the
scale. The paper adds εI, which bounds no trace.

**Where it fails.** Σ_1 and Σ_2 are large, and singular before the bound where D_k > D / D_k: by
default only Σ_3 is learnt. All branches start alike, since channels must correspond; heads must be
of equal shape; and related weights mean related tasks only where the features below are common.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtlbook.errors import UsageError
from mtlbook.layers.stages import Stages
from mtlbook.sharing.hard import HardSharing
from mtlbook.sharing.soft import stacked_parameters

AXES = ("features", "outputs", "tasks")  # those of Σ_1, Σ_2, Σ_3

Stack = Float[Tensor, "*several features outputs tasks"]
Covariance = Float[Tensor, "*several size size"]
Covariances = Mapping[str, Float[Tensor, "..."]]  # by axis, of unequal sizes


class DeepRelationshipNetwork(HardSharing):
    """A shared trunk, and for each task a branch and a head whose weights have a common prior.

    Arguments:
        stages: makes the hidden layers, from the input on.
        heads: by task, from the last stage's features to the prediction.
        branch_at: how many stages are shared; by default all, so that only the heads have a prior.
        tied: the dictionaries of modules whose weights have it.
        biases: counts a bias as the weight of one more feature, the constant 1; by default biases
            have no prior.
        related: the axes whose covariances are learnt, among `AXES`; the others' are I.
        apart: gives each task's weights covariances of their own, of features and outputs: what
            such a prior is worth without any relation between tasks (Zhao et al., 2019).

    Attributes:
        trunk, branches, heads: those of hard sharing.
        relations: for each layer with a prior, its covariances by axis, as buffers; I at first.
        layers: the layers' names, `*` in the place of the task.

    Raises:
        UsageError: for fewer than two tasks; an axis that is none, or that of the tasks with
            `apart`; layers of unequal shapes; and for what hard sharing refuses.

    Example:
        >>> model = DeepRelationshipNetwork(
        ...     lambda: [nn.Sequential(nn.Linear(8, 16), nn.Tanh())],
        ...     heads={"art": nn.Linear(16, 10), "clipart": nn.Linear(16, 10)},
        ... )
        >>> model.layers
        ('heads.*.weight',)
        >>> model.relations[0].tasks
        tensor([[1., 0.],
                [0., 1.]])
    """

    def __init__(
        self,
        stages: Stages,
        heads: Mapping[str, nn.Module],
        *,
        branch_at: int | None = None,
        tied: Sequence[str] = ("branches", "heads"),
        related: Sequence[str] = ("tasks",),
        apart: bool = False,
        biases: bool = False,
    ) -> None:
        super().__init__(stages, heads, branch_at=branch_at, same_start=not apart)
        if len(self.heads) < 2:
            raise UsageError("A prior relates tasks to each other: give heads for at least two.")
        if set(related) - set(AXES):
            raise UsageError(f"related names axes among {', '.join(AXES)}, not {list(related)}.")
        if apart and "tasks" in related:
            raise UsageError(
                "With apart=True each task has a prior of its own, which relates no tasks: leave "
                "'tasks' out of related, as in related=('features', 'outputs')."
            )
        self.tied, self.apart, self.biases = tuple(tied), apart, biases
        stacks = self._stacks()
        if not stacks:
            raise UsageError(
                f"The tasks' {list(self.tied)} have no weights, only scales or biases: share fewer "
                "stages, branch_at=…, or give the tasks linear heads."
            )
        self.layers = tuple(stacks)
        self.relations = nn.ModuleList(nn.Module() for _ in stacks)
        for relation, stack in zip(self.relations, stacks.values(), strict=True):
            for axis, size in zip(AXES, stack.shape, strict=True):
                if axis in related:
                    identity = torch.eye(size, dtype=stack.dtype)
                    copies = (stack.shape[-1], 1, 1) if apart else (1, 1)
                    relation.register_buffer(axis, identity.repeat(*copies))

    def prior(self) -> Float[Tensor, ""]:
        """½ vec(𝒲)ᵀ (Σ_1 ⊗ Σ_2 ⊗ Σ_3)⁻¹ vec(𝒲), summed over the layers: added to the losses."""
        return torch.stack([energy(*own).sum() for own in self._parts()]).sum() / 2

    def learnt(self, identity: float) -> dict[str, Tensor]:
        """The next covariances by name: one axis after another, each with a share of I."""
        new: dict[str, Tensor] = {}
        for number, (stack, covariances) in enumerate(self._parts()):
            for axis in covariances:
                covariances[axis] = bounded(flip_flop(stack, covariances, axis), identity)
                new[f"relations.{number}.{axis}"] = covariances[axis]
        return new

    def _parts(self) -> list[tuple[Stack, dict[str, Tensor]]]:
        """Each layer's weights and covariances; apart, behind an axis of as many stacks of one."""
        stacks = self._stacks().values()
        if self.apart:
            stacks = [own.movedim(-1, 0).unsqueeze(-1) for own in stacks]
        buffers = [dict(own.named_buffers()) for own in self.relations]
        return list(zip(stacks, buffers, strict=True))

    def _stacks(self) -> dict[str, Stack]:
        found, stacks = stacked_parameters(self, self.tied), {}
        for name, own in found.items():
            if own.ndim > 2:  # (outputs, inputs, ..., tasks): each pixel of a filter is a feature
                rows = [own.flatten(1, -2).transpose(0, 1)]
                bias = found.get(name.removesuffix("weight") + "bias")
                if self.biases and bias is not None:
                    rows.append(bias.unsqueeze(0))
                stacks[name] = torch.cat(rows)
        return stacks


class RelationshipPrior:
    """The prior with its strength, for `fit` and for any other loop.

    For `fit`, `Settings(regulariser=prior, after_step=prior.after_step)`; elsewhere, see below.

    Arguments:
        strength: λ > 0, by which the prior counts beside the losses.
        identity: the share of I in each covariance: 1 is independent L2 of the strength λ, and 0
            leaves the minimum without a bound.
        every: optimiser steps between two updates of the covariances.

    Raises:
        UsageError: for a strength below 0, a share that is none, or no step at all.

    Example:
        >>> heads = {"art": nn.Linear(4, 1), "clipart": nn.Linear(4, 1)}
        >>> model = DeepRelationshipNetwork(lambda: [nn.Linear(3, 4), nn.Tanh()], heads)
        >>> prior = RelationshipPrior(0.1, identity=0.1)
        >>> loss = torch.stack(list(model(torch.ones(5, 3)).values())).square().sum() + prior(model)
        >>> prior.update(model)  # behind optimiser.step()
        >>> round(float(model.relations[0].tasks.trace()), 4)
        2.0
    """

    def __init__(self, strength: float, *, identity: float = 0.1, every: int = 1) -> None:
        if not strength >= 0:
            raise UsageError(f"The strength of a prior must be at least 0, not {strength}.")
        if not 0 <= identity <= 1:
            raise UsageError(f"identity is a share: it must lie between 0 and 1, not {identity}.")
        if every < 1:
            raise UsageError(f"every counts steps: it must be at least 1, not {every}.")
        self.strength, self.identity, self.every = strength, identity, every

    def __call__(self, model: nn.Module, context: Any = None) -> Float[Tensor, ""]:  # noqa: ARG002
        """λ times the prior; the step (context) makes no difference to it."""
        return self.strength * _checked(model).prior()

    def after_step(self, model: nn.Module, context: Any) -> dict[str, Tensor]:
        """The next covariances by name, after each `every`-th step."""
        if (context.step + 1) % self.every or self.identity == 1:
            return {}
        return _checked(model).learnt(self.identity)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Give a model its next covariances."""
        for name, own in _checked(model).learnt(self.identity).items():
            model.get_buffer(name).copy_(own)


def _checked(model: nn.Module) -> DeepRelationshipNetwork:
    if not isinstance(model, DeepRelationshipNetwork):
        raise UsageError(
            f"This prior is that of a DeepRelationshipNetwork: a {type(model).__name__} has no "
            "covariances. Build the network as one, or use SquaredDistance."
        )
    return model


# The equations, of one stack (features, outputs, tasks) or of several, behind further axes --------


def energy(stack: Stack, covariances: Covariances) -> Float[Tensor, "..."]:
    """vec(𝒲)ᵀ (Σ_1 ⊗ Σ_2 ⊗ Σ_3)⁻¹ vec(𝒲); an axis without a covariance has I."""
    return (stack * _solved(stack, covariances)).sum((-3, -2, -1))


def log_determinant(stack: Stack, covariances: Covariances) -> Float[Tensor, "..."]:
    """Σ_k (D / D_k) ln |Σ_k|: with the energy, twice the negative log-density of the prior."""
    size = stack.shape[-3:].numel()
    terms = [size / own.shape[-1] * own.logdet() for own in covariances.values()]
    return torch.stack(terms).sum(0)


def flip_flop(stack: Stack, covariances: Covariances, axis: str) -> Covariance:
    """Σ_k = (D_k / D) W_(k) (⊗_{j≠k} Σ_j)⁻¹ W_(k)ᵀ, the most likely one beside the others.

    Example:
        >>> flip_flop(torch.tensor([[[1.0, -1.0]], [[2.0, -2.0]]]), {}, "tasks")
        tensor([[ 2.5000, -2.5000],
                [-2.5000,  2.5000]])
    """
    place = AXES.index(axis) - 3
    others = {name: own for name, own in covariances.items() if name != axis}
    left, right = (own.movedim(place, -3).flatten(-2) for own in (stack, _solved(stack, others)))
    return left @ right.mT / left.shape[-1]


def bounded(covariance: Covariance, identity: float) -> Covariance:
    """A covariance scaled to the trace D_k, and mixed with a share of the identity.

    Example:
        >>> bounded(torch.tensor([[2.5, -2.5], [-2.5, 2.5]]), identity=0.1)
        tensor([[ 1.0000, -0.9000],
                [-0.9000,  1.0000]])
    """
    unit = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    # Weights of 0 say nothing: what is left for them is I.
    filled = covariance + torch.finfo(covariance.dtype).tiny * unit
    scale = filled.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    return (1 - identity) * filled / scale + identity * unit


def correlations(covariance: Covariance) -> Covariance:
    """Σ_st / √(Σ_ss Σ_tt)."""
    deviations = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    return covariance / (deviations[..., :, None] * deviations[..., None, :])


def kronecker_ridge(
    inputs: Float[Tensor, "tasks rows features"],
    targets: Float[Tensor, "tasks rows"],
    tasks: Float[Tensor, "tasks tasks"],
    strength: float,
) -> Float[Tensor, "features tasks"]:
    """The one linear layer that minimises Σ_t mean (y_t − X_t w_t)² + ½ λ tr(W Σ_3⁻¹ Wᵀ).

    Example:
        >>> one = torch.ones(2, 4, 1)
        >>> kronecker_ridge(one, torch.ones(2, 4), torch.eye(2), strength=2.0)
        tensor([[0.5000, 0.5000]])
    """
    features, rows = inputs.shape[2], inputs.shape[1]
    unit = torch.eye(features, dtype=inputs.dtype, device=inputs.device)
    system = torch.block_diag(*(2 / rows * inputs.mT @ inputs))
    precision = torch.linalg.inv(tasks).contiguous()  # which kron asks for
    system = system + strength * torch.kron(precision, unit)
    known = 2 / rows * (inputs.mT @ targets.unsqueeze(-1)).flatten()
    return torch.linalg.solve(system, known).reshape(-1, features).T


def _solved(stack: Stack, covariances: Covariances) -> Stack:
    """(Σ_1 ⊗ Σ_2 ⊗ Σ_3)⁻¹ 𝒲, axis by axis."""
    for axis, covariance in covariances.items():
        place = AXES.index(axis) - 3
        moved = stack.movedim(place, -3)
        solved = torch.linalg.solve(covariance, moved.flatten(-2))
        stack = solved.reshape(moved.shape).movedim(-3, place)
    return stack
