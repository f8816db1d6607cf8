r"""Section 6.7, tensor factorisation: the tasks' weights of a layer in common low-rank factors.

Every task has a network of the same shape. A layer's weights, stacked with the task as last axis,
are one tensor 𝒲, which is trained in factors (Yang and Hospedales, 2017, section 3; Ruder, 2017,
section 6.7), in one of three forms:

    LAF      𝒲[…, t] = Σ_k ℒ[…, k] S[k, t]            task t mixes K layers that all tasks share
    Tucker   𝒲 = 𝒮 ×₁ U⁽¹⁾ ×₂ U⁽²⁾ ⋯ ×_N U⁽ᴺ⁾         a core, and a matrix for each axis
    TT       𝒲 = U⁽¹⁾ ∘ U⁽²⁾ ∘ ⋯ ∘ U⁽ᴺ⁾               a chain: last axis of one, first of the next

What has one axis only (biases, scales) stays each task's own. `factorise` starts from trained
single-task networks by SVD, HOSVD or TT-SVD; the relative error ε, 10 % in the paper, fixes the
ranks. With ε = 0 the predictions are still theirs. LAF with S = I is separate networks, with one
row of ones hard sharing; of one linear layer with one output it is GO-MTL without its ℓ₁.

**Where it fails.** Hidden units have no order: networks that start from different initial weights
use them differently, their stack has full rank, and truncating it destroys what they learnt. Let
them start alike. Layers must have equal shapes in all tasks, inputs included.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, vmap

from mtlbook.errors import UsageError
from mtlbook.layers.schedule import Scheduled, Stepped
from mtlbook.layers.stages import Stages, check_apart, make, named
from mtlbook.layers.tensor_factors import checked_ranks, decomposed, product, ranks


class TensorFactorisation(nn.Module):
    """A network of stages for each task, whose weights are stacked over the tasks and factorised.

    An output layer of equal shape can be shared, too: make it the last stage, and all heads
    `nn.Identity()`. Dropout drops the same units in all tasks.

    Arguments:
        stages: makes the stages of one task's network, from the input on; called once a task, in
            the order of the heads. They must have the same parameters in the same shapes.
        heads: by task, from the last stage's features to the prediction; each task's own.
        form: "LAF", "Tucker" or "TT".
        ranks: K, the rank of the task axis, the other ranks as large as they can be; or all ranks
            of each weight by its name, as `ranks_of` gives them; None for the largest.

    Attributes:
        stages: the layers of all tasks, each a `FactorisedStage`.
        heads: by task.

    Raises:
        UsageError: for fewer than two heads; for stages that are no function, or that differ in
            number or shapes; for an unknown form; for ranks above a layer's size.

    Example:
        >>> stages = lambda: [nn.Sequential(nn.Linear(8, 16), nn.Tanh()), nn.Linear(16, 1)]
        >>> heads = {name: nn.Identity() for name in ("one", "two", "three")}
        >>> model = TensorFactorisation(stages, heads, ranks=2)
        >>> {name: tuple(p.shape) for name, p in model(torch.ones(5, 8)).items()}
        {'one': (5, 1), 'two': (5, 1), 'three': (5, 1)}
        >>> [tuple(factor.shape) for factor in model.factors["0.0.weight"]]
        [(16, 8, 2), (2, 3)]
        >>> trained = {name: nn.Sequential(*stages()) for name in heads}
        >>> model.factorise(trained, error=0.1)
    """

    def __init__(
        self,
        stages: Stages,
        heads: Mapping[str, nn.Module],
        *,
        form: str = "LAF",
        ranks: int | Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        self.heads = named(heads)
        self.form = form
        if len(self.heads) < 2:
            raise UsageError("There is nothing to stack: give heads for at least two tasks.")
        made = [make(stages) for _ in self.heads]
        check_apart(made)
        if not made[0]:
            raise UsageError("A network needs at least one stage, whose weights are stacked.")
        _check_equal(
            {task: nn.Sequential(*own) for task, own in zip(self.heads, made, strict=True)}
        )
        asked = ranks if isinstance(ranks, Mapping) else {}
        common = None if isinstance(ranks, Mapping) else ranks
        self.stages = nn.ModuleList()
        for place, own in enumerate(zip(*made, strict=True)):
            of_weights = {
                name: checked_ranks(
                    (*values.shape, len(made)),
                    form,
                    asked.get(f"{place}.{name}", common),
                    f"The weight {place}.{name}",
                )
                for name, values in made[0][place].named_parameters()
                if values.ndim > 1
            }
            self.stages.append(FactorisedStage(own, form, of_weights))

    def forward(
        self, inputs: Float[Tensor, "examples ..."] | Mapping[str, Tensor]
    ) -> Mapping[str, Float[Tensor, "..."]]:
        """Each task's prediction, `(examples, outputs, ...)`."""
        features: Any = inputs
        for place, stage in enumerate(self._layers):
            features = stage(features, common=place == 0)
        return {name: head(features[t]) for t, (name, head) in enumerate(self.heads.items())}

    @property
    def factors(self) -> dict[str, nn.ParameterList]:
        """By a weight's name in a task's network: ℒ and S, or 𝒮 and every U, or every U."""
        return {f"{place}.{name}": own for place, stage in enumerate(self._layers)
                for name, own in stage.factors_by_name.items()}  # fmt: skip

    @property
    def weights(self) -> dict[str, Float[Tensor, "... tasks"]]:
        """By a weight's name in a task's network: the stack 𝒲, the product of its factors."""
        return {name: product(list(own), self.form) for name, own in self.factors.items()}

    @torch.no_grad()
    def factorise(self, networks: Mapping[str, nn.Sequential], *, error: float = 0.0) -> None:
        """Start from single-task networks: take over the truncated decomposition of their stack.

        Components beyond those that the error asks for become zero in all factors. There gradients
        are zero, too, so that training leaves them out: replicas of different ranks can train as
        one program.

        Arguments:
            networks: by task, its stages; what is not factorised is copied.
            error: ε, of each cut, relative to the norm of what is cut; the ranks stay at most the
                model's own.

        Raises:
            UsageError: for networks of other tasks, or of other shapes than the model's.
        """
        if set(networks) != set(self.heads):
            raise UsageError(
                f"There are networks for {sorted(networks)}: give one for each of the tasks "
                f"{sorted(self.heads)}."
            )
        mine = {name: tuple(own.shape[:-1]) for name, own in self.weights.items()}
        given = {name: tuple(own.shape[:-1]) for name, own in stacked(networks).items()}
        if mine != given:
            raise UsageError(
                f"The networks' weights have the shapes {given}, and the model's {mine}: train "
                "the networks with the model's own stages."
            )
        made = [list(networks[name]) for name in self.heads]
        for stage, own in zip(self._layers, zip(*made, strict=True), strict=True):
            stage.take(own, error)

    @property
    def _layers(self) -> list["FactorisedStage"]:
        return cast(list[FactorisedStage], list(self.stages))


class FactorisedStage(nn.Module):
    """One stage of all tasks at once: their weights in factors, all else stacked, task first.

    Attributes:
        factors, own: by parameter, with "/" for "." in its name.
        template: the stage, without parameters of its own.
    """

    def __init__(
        self, made: Sequence[nn.Module], form: str, of_weights: Mapping[str, Sequence[int]]
    ) -> None:
        super().__init__()
        self.form, self.tasks = form, len(made)
        self.factors, self.own = nn.ModuleDict(), nn.ParameterDict()
        for name, stack in _stacks(made).items():
            key = name.replace(".", "/")
            if name not in of_weights:
                self.own[key] = nn.Parameter(stack)
                continue
            stack = stack.movedim(0, -1)
            factors = decomposed(stack, form, ranks=of_weights[name])
            # Truncation takes norm away; an untrained layer should keep it.
            factors[0] = factors[0] * (stack.norm() / product(factors, form).norm())
            self.factors[key] = nn.ParameterList(factors)
        self.state = [name for name, _ in _state(made[0])]
        for name, stack in _state_stacks(made).items():
            self.register_buffer(name.replace(".", "/"), stack)
        self.template = _emptied(made[0])

    @property
    def factors_by_name(self) -> dict[str, nn.ParameterList]:
        """The factors of each weight."""
        found = cast(dict[str, nn.ParameterList], dict(self.factors.items()))
        return {key.replace("/", "."): own for key, own in found.items()}

    def forward(self, features: Any, common: bool) -> Float[Tensor, "tasks examples ..."]:
        """What the tasks' stages compute, of inputs that are common to all or of each its own."""
        values = {name: product(list(own), self.form).movedim(-1, 0)
                  for name, own in self.factors_by_name.items()}  # fmt: skip
        values |= {key.replace("/", "."): own for key, own in self.own.items()}
        values |= {name: getattr(self, name.replace(".", "/")) for name in self.state}

        def of_task(own: dict[str, Tensor], rows: Any) -> Tensor:
            return functional_call(self.template, own, (rows,))

        if common and not values:  # a stage without parameters computes the same for all
            own = self.template(features)
            return own.expand(self.tasks, *own.shape)
        if values and torch.is_autocast_enabled(next(iter(values.values())).device.type):
            # Autocast does not reach into vmap.
            alone = [{name: own[t] for name, own in values.items()} for t in range(self.tasks)]
            return torch.stack(
                [of_task(own, features if common else features[t]) for t, own in enumerate(alone)]
            )
        every = vmap(of_task, (0, None if common else 0), randomness="different")
        return every(values, features)

    def take(self, made: Sequence[nn.Module], error: float) -> None:
        """Take over trained stages."""
        stacks = _stacks(made)
        for name, own in self.factors_by_name.items():
            stack, at_most = stacks[name].movedim(0, -1), ranks(list(own), self.form)
            found = decomposed(stack, self.form, error=error, ranks=at_most)
            for factor, values in zip(own, found, strict=True):
                factor.copy_(values)
        for key, own in self.own.items():
            own.copy_(stacks[key.replace("/", ".")])
        for name, stack in _state_stacks(made).items():
            getattr(self, name.replace(".", "/")).copy_(stack)


def stacked(networks: Mapping[str, nn.Sequential]) -> dict[str, Float[Tensor, "... tasks"]]:
    """The weights of the tasks' networks by name, those of a name stacked, task last.

    Raises:
        UsageError: for networks that differ in shapes.

    Example:
        >>> stacked({name: nn.Sequential(nn.Linear(3, 2)) for name in "ab"})["0.weight"].shape
        torch.Size([2, 3, 2])
    """
    _check_equal(networks)
    stacks = _stacks(list(networks.values()))
    return {name: own.movedim(0, -1) for name, own in stacks.items() if own.ndim > 2}


def ranks_of(
    networks: Mapping[str, nn.Sequential], form: str, error: float
) -> dict[str, tuple[int, ...]]:
    """By weight, the ranks that ε asks for, to build a model with.

    Example:
        >>> network = nn.Sequential(nn.Linear(3, 2))
        >>> ranks_of({"a": network, "b": network, "c": network}, "LAF", error=0.1)
        {'0.weight': (1,)}
    """
    return {name: ranks(decomposed(own, form, error=error), form)
            for name, own in stacked(networks).items()}  # fmt: skip


def principal_angles(
    first: Float[Tensor, "size one"], second: Float[Tensor, "size other"]
) -> Float[Tensor, " angles"]:
    """The principal angles between the spaces that the columns of two matrices span, in radians.

    Example:
        >>> x, y, z = torch.eye(3)
        >>> principal_angles(torch.stack([x, y], 1), torch.stack([x, y + z], 1))
        tensor([0.0000, 0.7854])
    """
    bases = [torch.linalg.qr(matrix).Q for matrix in (first, second)]
    cosines = torch.linalg.svdvals(bases[0].mT @ bases[1])
    return cosines.clamp(max=1).acos()


def sharing_strength(mixing: Float[Tensor, "components tasks"]) -> Float[Tensor, ""]:
    """The paper's ρ, the mean cosine of the softmax of |S| between tasks; not a good measure.

    Separate networks, S = I, have ρ = 0.65 for two tasks and nearly 1 for many; and ℒM, M⁻¹S are
    the same layers with another ρ. `principal_angles` of the layers themselves has neither fault.

    Example:
        >>> [round(float(sharing_strength(torch.eye(tasks))), 2) for tasks in (2, 10, 50)]
        [0.65, 0.82, 0.95]
    """
    columns = mixing.abs().softmax(0)
    columns = columns / columns.norm(dim=0)
    pairs = list(combinations(range(columns.shape[1]), 2))
    return torch.stack([columns[:, i] @ columns[:, j] for i, j in pairs]).mean()


def _stacks(made: Sequence[nn.Module]) -> dict[str, Tensor]:
    every = [dict(own.named_parameters()) for own in made]
    return {name: torch.stack([own[name].detach() for own in every]) for name in every[0]}


def _state(stage: nn.Module) -> list[tuple[str, Tensor]]:
    """The buffers that differ between tasks, such as running statistics; not clocks and keys."""
    clocks = {id(values) for layer in stage.modules() if isinstance(layer, (Scheduled, Stepped))
              for values in layer.buffers()}  # fmt: skip
    return [(name, own) for name, own in stage.named_buffers() if id(own) not in clocks]


def _state_stacks(made: Sequence[nn.Module]) -> dict[str, Tensor]:
    every = [dict(_state(own)) for own in made]
    return {name: torch.stack([own[name] for own in every]) for name in every[0]}


def _emptied(stage: nn.Module) -> nn.Module:
    """The stage with an empty buffer in the place of each parameter and each stacked buffer."""
    blanks = {id(own): torch.empty(0) for _, own in [*stage.named_parameters(), *_state(stage)]}
    for layer in stage.modules():
        for key, own in [*layer._parameters.items(), *layer._buffers.items()]:
            if id(own) in blanks:
                delattr(layer, key)
                layer.register_buffer(key, blanks[id(own)], persistent=False)
    return stage


def _check_equal(networks: Mapping[str, nn.Module]) -> None:
    shapes = {task: {name: tuple(own.shape) for name, own in network.named_parameters()}
              for task, network in networks.items()}  # fmt: skip
    first, *others = shapes
    for other in others:
        if shapes[other] != shapes[first]:
            unequal = sorted(set(shapes[first].items()) ^ set(shapes[other].items()))
            raise UsageError(
                f"The networks of {first!r} and {other!r} differ in {unequal[0][0]}: weights are "
                "stacked over the tasks, so give all tasks layers of the same shapes, and layers "
                "of one task alone to its head."
            )
