r"""Section 3.2, soft parameter sharing: a network for each task, and a penalty on their difference.

The tasks' networks have equal shapes. Each of their parameters is stacked over the tasks, along a
new last axis, and a penalty λ Ω(stack) makes the columns alike. A penalty can be used in two ways:

* *in the loss*: `penalty(model)` is added to the tasks' losses (`Settings(regulariser=penalty)`);
* *by its proximal map*: after each gradient step of size η on the losses alone, the parameters
  become `penalty.proximal(model, η)`, that is argmin ½‖θ − θ'‖² + η λ Ω(θ)
  (`Settings(after_step=lambda model, context: penalty.proximal(model, context.learning_rate))`).

Both have the same minima; only the second reaches the ends of the dial. λ = 0 leaves the networks
as they are. A squared distance with λ → ∞ makes them equal in one step, whereas in the loss its
gradient grows with λ and asks for ever smaller steps. At finite λ, an absolute distance makes
parameters *exactly* equal and a trace norm *exactly* of low rank; subgradient steps never do.

The step must be that of a gradient method in the ordinary metric: SGD, with or without momentum.
Adam scales each parameter's step differently, and a proximal map behind it minimises another
objective. With momentum μ, set PyTorch's `dampening=μ`: else its step is 1 / (1 − μ) times as long
as the η that the proximal map is told, and λ counts for (1 − μ) λ.

Distance between parameters means something only where the same place in two networks has the same
role. Permuted hidden units compute the same function at a large distance: let all networks start
from the same weights. `separate_networks(..., same_start=True)` does so for the branches; an output
layer that is to be tied is best the last stage of the branch, with `nn.Identity` as the head.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtlbook.errors import UsageError

Stack = Float[Tensor, "*shape tasks"]

_SLOT = "*"  # stands for the task in the name of a stacked parameter


def stacked_parameters(model: nn.Module, tied: Sequence[str]) -> dict[str, Stack]:
    """The parameters that the tasks' networks have in common, stacked over tasks (the last axis).

    Arguments:
        model: has the modules of the tasks in `nn.ModuleDict`s.
        tied: the names of these dictionaries, with their path where they lie deeper: of
            `HardSharing`, `"branches"` and `"heads"`; of `CrossStitch`, `"columns"` and `"heads"`.

    Returns:
        For each parameter, under its name with `*` instead of the task, its stack.

    Raises:
        UsageError: where the tasks' modules differ in shape, or have no parameters.

    Example:
        >>> from mtlbook.sharing.hard import separate_networks
        >>> heads = {crop: nn.Linear(4, 1) for crop in ("wheat", "maize", "rice")}
        >>> model = separate_networks(lambda: [nn.Linear(5, 4), nn.Tanh()], heads, same_start=True)
        >>> {name: tuple(s.shape) for name, s in stacked_parameters(model, ["branches"]).items()}
        {'branches.*.0.weight': (4, 5, 3), 'branches.*.0.bias': (4, 3)}
    """
    stacks = {}
    for part in tied:
        networks = [dict(network.named_parameters()) for network in _networks(model, part).values()]
        shapes = [{name: p.shape for name, p in network.items()} for network in networks]
        if any(own != shapes[0] for own in shapes):
            raise UsageError(
                f"The tasks' {part} differ in shape, so that their parameters cannot be compared: "
                f"leave {part!r} out of tied={list(tied)}, or give the tasks equal modules."
            )
        for name in networks[0]:
            columns = tuple(network[name] for network in networks)
            stacks[f"{part}.{_SLOT}.{name}"] = torch.stack(columns, dim=-1)
    if not stacks:
        raise UsageError(f"There is no parameter to share softly in {list(tied)} of this model.")
    return stacks


def _networks(model: nn.Module, part: str) -> nn.ModuleDict:
    try:
        networks = model.get_submodule(part)
    except AttributeError:
        networks = None
    if not isinstance(networks, nn.ModuleDict) or len(networks) < 2:
        raise UsageError(
            f"tied names the model's dictionaries of modules, one module for each of at least two "
            f"tasks (nn.ModuleDict): {part!r} is none."
        )
    return networks


class SoftSharing(ABC):
    """A penalty λ Σ Ω(stack) over the stacked parameters of the tasks' networks.

    A subclass says what Ω and its proximal map are. Called with a model, it returns the penalty.

    Arguments:
        strength: λ ≥ 0.
        tied: which of the model's dictionaries of modules are tied, see `stacked_parameters`: the
            hidden layers by default. Add `"heads"` where the tasks' heads have equal shapes.
    """

    def __init__(self, strength: float, tied: Sequence[str] = ("branches",)) -> None:
        if not strength >= 0:
            raise UsageError(f"The strength of soft sharing must be at least 0, not {strength}.")
        self.strength = strength
        self.tied = tuple(tied)

    def __call__(self, model: nn.Module, context: Any = None) -> Float[Tensor, ""]:  # noqa: ARG002
        """λ Σ Ω(stack), to be added to the loss; the step (context) makes no difference to it."""
        stacks = stacked_parameters(model, self.tied).values()
        return self.strength * torch.stack([self.measure(stack) for stack in stacks]).sum()

    def proximal(self, model: nn.Module, step_size: float) -> dict[str, Tensor]:
        """The new values, by name, of the tied parameters after a gradient step of this size."""
        new = {}
        for name, stack in stacked_parameters(model, self.tied).items():
            shrunk = self.shrink(stack, step_size * self.strength)
            part, _, own = name.partition(f".{_SLOT}.")
            tasks = _networks(model, part)
            for task, column in zip(tasks, shrunk.unbind(-1), strict=True):
                new[f"{part}.{task}.{own}"] = column
        return new

    @abstractmethod
    def measure(self, stack: Stack) -> Float[Tensor, ""]:
        """Ω of one stack."""

    @abstractmethod
    def shrink(self, stack: Stack, amount: float) -> Stack:
        """The proximal map of amount · Ω at one stack: argmin ½‖new − stack‖² + amount · Ω(new)."""


class SquaredDistance(SoftSharing):
    r"""Ω = Σ_{s<t} ‖θ_s − θ_t‖² (Duong, Cohn, Bird and Cook, 2015; Ruder, 2017, section 3.2).

    Duong et al. write λ/2 ‖θ − θ_source‖² for two languages, the network of the source trained
    first: that is this penalty in the loss at half their λ, the source's parameters frozen.

    The sum over pairs is T Σ_t ‖θ_t − m‖² with m the tasks' mean. Its proximal map therefore keeps
    m and divides each deviation from it by 1 + 2 T η λ. At λ = ∞ all networks are m, which moves by
    the *mean* of the tasks' gradients: one network trained on the sum of the losses with the step
    η / T.
    """

    def measure(self, stack: Stack) -> Float[Tensor, ""]:
        """T Σ_t ‖θ_t − m‖², which is the sum over pairs."""
        return stack.shape[-1] * (stack - stack.mean(-1, keepdim=True)).square().sum()

    def shrink(self, stack: Stack, amount: float) -> Stack:
        """Deviations from the mean divided by 1 + 2 T amount; exact at amounts 0 and ∞."""
        mean = stack.mean(-1, keepdim=True)
        return stack.lerp(mean.expand_as(stack), 1 - 1 / (1 + 2 * stack.shape[-1] * amount))


class AbsoluteDistance(SoftSharing):
    r"""Ω = Σ_{s<t} |θ_s − θ_t|, element by element: ties parameters exactly at finite λ.

    With an element's values in ascending order, θ_(1) ≤ … ≤ θ_(T), the sum over pairs is linear,
    Σ_i (2i − 1 − T) θ_(i), and the proximal map keeps the order. It is thus the isotonic regression
    of z_i = θ_(i) − η λ (2i − 1 − T), which the min–max formula gives in closed form (Robertson,
    Wright and Dykstra, *Order restricted statistical inference*, 1988, theorem 1.4.4):
    max_{a ≤ i} min_{b ≥ i} mean(z_a, …, z_b).
    """

    def __init__(self, strength: float, tied: Sequence[str] = ("branches",)) -> None:
        super().__init__(strength, tied)
        if strength == float("inf"):
            raise UsageError("An absolute distance ties at a finite strength: give a finite one.")

    def measure(self, stack: Stack) -> Float[Tensor, ""]:
        """The sum over pairs, by the values' order."""
        return (_ranks(stack) * stack.sort(dim=-1).values).sum()

    def shrink(self, stack: Stack, amount: float) -> Stack:
        """Isotonic regression of the ordered, shifted values; ties are exact."""
        tasks = stack.shape[-1]
        ordered, order = stack.sort(dim=-1)
        shifted = ordered - amount * _ranks(stack)
        # means[..., a, b] = mean(z_a, …, z_b); the entries below the diagonal are never read.
        sums = nn.functional.pad(shifted.cumsum(-1), (1, 0))
        lengths = torch.arange(1, tasks + 1) - torch.arange(tasks).unsqueeze(1)  # b − a + 1
        means = (sums[..., None, 1:] - sums[..., :-1, None]) / lengths.clamp(min=1).to(stack)
        isotonic = [means[..., : i + 1, i:].amin(-1).amax(-1) for i in range(tasks)]
        return torch.stack(isotonic, dim=-1).gather(-1, order.argsort(dim=-1))


def _ranks(stack: Stack) -> Float[Tensor, " tasks"]:
    """2i − 1 − T for i = 1, …, T: the weight of the i-th smallest value in the sum over pairs."""
    tasks = stack.shape[-1]
    return torch.arange(1 - tasks, tasks, 2, dtype=stack.dtype, device=stack.device)


class TraceNorm(SoftSharing):
    r"""Ω = the trace (nuclear) norm of the stack: networks that span few directions.

    Yang and Hospedales, *Trace norm regularised deep multi-task learning*, 2017, section 2: with 𝒲
    a stack of N axes, the last of them the tasks,

    * `"LAF"` (last axis flattening): ‖W_(N)‖_*, a matrix of tasks × parameters;
    * `"Tucker"`: Σ_{i=1}^{N} ‖W_(i)‖_*, with W_(i) the unfolding along axis i;
    * `"TT"` (tensor train): Σ_{i=1}^{N−1} ‖W_[i]‖_*, with W_[i] the first i axes × the others

    (their weights γ_i are all λ here). ‖·‖_* is the sum of the singular values, the convex
    surrogate of the rank; with W = U S Vᵀ a subgradient is U Vᵀ. The proximal map of LAF subtracts
    η λ from the singular values and stops at 0; the other two are sums of norms of the same numbers
    in different order, whose proximal map has no closed form: use them in the loss.

    λ → ∞ leads to zero weights and not to one network: rank one comes on the way.

    Arguments:
        strength, tied: as for every soft sharing.
        form: `"LAF"`, `"Tucker"` or `"TT"`.
    """

    def __init__(
        self,
        strength: float,
        tied: Sequence[str] = ("branches",),
        form: str = "LAF",
    ) -> None:
        super().__init__(strength, tied)
        if form not in _UNFOLDINGS:
            raise UsageError(f"form must be one of {', '.join(_UNFOLDINGS)}, not {form!r}.")
        self.form = form

    def measure(self, stack: Stack) -> Float[Tensor, ""]:
        """The sum of the singular values of the form's matrices."""
        norms = [torch.linalg.svdvals(matrix).sum() for matrix in _UNFOLDINGS[self.form](stack)]
        return torch.stack(norms).sum()

    def shrink(self, stack: Stack, amount: float) -> Stack:
        """The singular values lowered by the amount, at least 0 (LAF only)."""
        if self.form != "LAF":
            raise UsageError(
                f"The {self.form} trace norm has no proximal map in closed form: add it to the "
                "loss (regulariser=penalty), or choose form='LAF'."
            )
        # left: (parameters, rank), values: (rank,), right: (rank, tasks)
        left, values, right = torch.linalg.svd(stack.flatten(0, -2), full_matrices=False)
        return (left * (values - amount).clamp(min=0) @ right).view(stack.shape)


def _along_each_axis(stack: Stack) -> list[Float[Tensor, "axis others"]]:
    return [stack.movedim(axis, 0).flatten(1) for axis in range(stack.ndim)]


def _split_behind_each_axis(stack: Stack) -> list[Float[Tensor, "first others"]]:
    return [stack.flatten(axis).flatten(0, axis - 1) for axis in range(1, stack.ndim)]


_UNFOLDINGS = {
    "LAF": lambda stack: [stack.flatten(0, -2).T],
    "Tucker": _along_each_axis,
    "TT": _split_behind_each_axis,
}
