"""Replicas: a model for each seed, their parameters stacked, called all at once."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.func import stack_module_state, vmap
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode

from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.tasks import Task

# Parameters and buffers by name, each stacked over the seeds: (seeds, ...).
State = dict[str, Tensor]


class Replica(nn.Module):
    """A model together with its weighting."""

    model: nn.Module
    weighting: Callable[[Tensor], Tensor] | None

    def __init__(self, model: nn.Module, weighting: Callable[[Tensor], Tensor] | None) -> None:
        super().__init__()
        self.model = model
        self.weighting = deepcopy(weighting) if isinstance(weighting, nn.Module) else weighting


class Replicas:
    """A replica for each seed, and functions of a replica applied to all of them at once.

    Arguments:
        build: makes a model; called under each seed's own random numbers, in float64 on the CPU
            whatever the training's precision and device.
        seeds: one replica each, or `times` replicas: all seeds, then all seeds again, and so on.
        times: how many replicas of a seed start alike.
        weighting: how a replica combines its losses; each gets a copy.
        initialise: changes a fresh model in place, given its seed.
        vectorise: whether all replicas are evaluated in one call; otherwise there is but one.

    Attributes:
        parameters, buffers: by name, stacked over the seeds.
    """

    def __init__(
        self,
        build: Callable[[], nn.Module],
        seeds: Sequence[int],
        *,
        times: int,
        weighting: Callable[[Tensor], Tensor] | None,
        initialise: Callable[[nn.Module, int], None] | None,
        device: torch.device,
        dtype: torch.dtype,
        vectorise: bool,
    ) -> None:
        self._modules = []
        for seed in seeds:
            model = _fresh(build, seed)
            if initialise is not None:
                initialise(model, seed)
            self._modules.append(Replica(model, weighting).to(device, dtype))
        stacked = stack_module_state(self._modules)
        self.parameters, self.buffers = (
            {name: _repeated(values, times) for name, values in state.items()} for state in stacked
        )
        self._slots = _slots(self._modules[0])
        self._vectorise = vectorise and times * len(seeds) > 1

    @property
    def trained(self) -> list[tuple[str, Tensor]]:
        """The parameters that are not frozen, by name."""
        return [(name, values) for name, values in self.parameters.items() if values.requires_grad]

    @property
    def size(self) -> int:
        """Trained numbers of one replica."""
        return sum(values[0].numel() for _, values in self.trained)

    @property
    def state(self) -> State:
        """Parameters and buffers as they are now."""
        return self.parameters | self.buffers

    def snapshot(self) -> State:
        """A copy of the state."""
        return {name: values.detach().clone() for name, values in self.state.items()}

    def train(self, training: bool) -> None:
        """Switch all replicas between training and evaluation."""
        self._modules[0].train(training)

    def map(self, function: Callable[..., Any], state: State | None = None) -> Callable[..., Any]:
        """`function(replica, *arguments)` for all seeds: the first axis of everything is the seed.

        Raises:
            UsageError: for a function or model that cannot be evaluated for all seeds at once.
        """
        replica = self._modules[0]

        def one(own: State, *arguments: Any) -> Any:
            before = [holder[key] for holder, key, _ in self._slots]
            try:
                for holder, key, name in self._slots:
                    holder[key] = own[name]
                return function(replica, *arguments)
            finally:
                for (holder, key, _), values in zip(self._slots, before, strict=True):
                    holder[key] = values

        def every(*arguments: Any) -> Any:
            now = self.state if state is None else state
            if not self._vectorise:
                alone = tree_map(lambda values: values.squeeze(0), (now, *arguments))
                return tree_map(lambda values: values.unsqueeze(0), one(*alone))
            try:
                return vmap(one)(now, *arguments)
            except RuntimeError as error:
                if "vmap" not in str(error):
                    raise
                if "randomness" in str(error):
                    raise UsageError(
                        "The model draws random numbers in a way that differs between machines "
                        "and cannot be replayed for each seed: use mtlbook.layers.dropout.Dropout, "
                        "or draw when the model is made."
                    ) from error
                raise UsageError(
                    "This model cannot be trained for all seeds at once: pass vectorise=False to "
                    f"train one seed after another. The reason: {error}"
                ) from error

        return every

    def one(self, state: State, number: int) -> Replica:
        """The replica of one of the seeds, by its place among them, with the weights of a state."""
        own = deepcopy(self._modules[number % len(self._modules)])
        own.load_state_dict({name: values[number] for name, values in state.items()})
        return own.eval()

    def operations(self, example: Shaped[Tensor, "1 ..."], tasks: Sequence[Task]) -> int:
        """Floating-point operations that a replica takes to predict one example.

        Raises:
            UsageError: for a model that does not take the example or predict the tasks.
        """
        replica = self._modules[0]
        self.train(False)
        try:
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                predictions = replica.model(example)
        except RuntimeError as error:
            raise UsageError(
                f"The model does not take inputs of the shape {tuple(example.shape)} (one "
                f"example): {error}"
            ) from error
        self.train(True)
        if not isinstance(predictions, Mapping):
            raise UsageError(
                "A model returns a dictionary from task names to predictions, not a "
                f"{type(predictions).__name__}."
            )
        for task in tasks:
            if task.name not in predictions:
                raise UsageError(
                    f"The model predicts {sorted(predictions)}, and not the task {task.name!r}: "
                    "give it a head for the task, or choose other tasks."
                )
            shape = tuple(predictions[task.name].shape)
            if shape[:2] != (1, task.outputs):
                raise UsageError(
                    f"The model predicts task {task.name!r} for one example in the shape {shape}: "
                    f"it must begin with (1, {task.outputs})."
                )
        return counter.get_total_flops()


def _repeated(values: Tensor, times: int) -> Tensor:
    if times == 1:
        return values
    again = values.detach().repeat(times, *[1] * (values.ndim - 1))
    return again.requires_grad_(values.requires_grad)


def _slots(module: nn.Module) -> list[tuple[dict, str, str]]:
    """Where a module's layers look up each parameter and buffer, and its name in the state.

    `torch.func.functional_call` finds these places anew at each call, which for small networks
    takes as long as the call itself.
    """
    first: dict[int, str] = {}  # A tensor that two layers share has the name of its first place.
    slots = []
    for prefix, layer in module.named_modules():
        for holder in (layer._parameters, layer._buffers):
            for key, values in holder.items():
                if values is not None:
                    name = first.setdefault(id(values), f"{prefix}.{key}" if prefix else key)
                    slots.append((holder, key, name))
    return slots


def _fresh(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    default = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(seed, "initialisation").initial_seed())
        try:
            torch.set_default_dtype(torch.float64)
            return build()
        finally:
            torch.set_default_dtype(default)
