"""Replicas: a model for each seed, their parameters stacked, called all at once."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import stack_module_state, vmap
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.layers.dropout import reproducible
from mtlbook.layers.schedule import Scheduled, Stepped
from mtlbook.layers.weight_norm import plain_weight_norm
from mtlbook.randomness import generator
from mtlbook.tasks import Task
from mtlbook.training.context import Inputs, each_tensor

# Parameters and buffers by name, each stacked over the replicas: (replicas, ...).
State = dict[str, Tensor]
Build = Callable[[MultiTaskData, int], nn.Module]

_RECURRENT = (nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell)


class Replicas:
    """A replica for each seed, and functions of a replica applied to all of them at once.

    Arguments:
        build: makes a model from a seed's training data and the seed; called under that seed's own
            random numbers, in float64 on the CPU whatever the training's precision and device.
        data: each seed's training data.
        seeds: one replica each, or `times` replicas: all seeds, then all seeds again, and so on.
        times: how many replicas of a seed start alike.
        start: changes a fresh model in place, given its seed.
        vectorise: whether all replicas are evaluated in one call; otherwise there is but one.

    Attributes:
        parameters, buffers: by name, stacked over the replicas.
        modules: the models as they were built; their own weights are never trained.
    """

    def __init__(
        self,
        build: Build,
        data: Sequence[MultiTaskData],
        seeds: Sequence[int],
        *,
        times: int,
        start: Callable[[nn.Module, int], None] | None,
        device: torch.device,
        dtype: torch.dtype,
        vectorise: bool,
    ) -> None:
        self.modules: list[nn.Module] = []
        for own, seed in zip(data, seeds, strict=True):
            model = plain_weight_norm(reproducible(_fresh(build, own, seed), seed))
            if start is not None:
                start(model, seed)
            self.modules.append(model.to(device, dtype))
        stacked = stack_module_state(self.modules)
        self.parameters, self.buffers = (
            {name: _repeated(values, times) for name, values in state.items()} for state in stacked
        )
        self._slots = _slots(self.modules[0])
        self._clocks = _clocks(self.modules[0])
        self._vectorise = vectorise and times * len(seeds) > 1

    @cached_property
    def trained(self) -> State:
        """The parameters that are not frozen, by name."""
        return {name: own for name, own in self.parameters.items() if own.requires_grad}

    @property
    def size(self) -> int:
        """Trainable parameters of one replica."""
        return sum(values[0].numel() for values in self.trained.values())

    @property
    def state(self) -> State:
        """Parameters and buffers as they are now."""
        return self.parameters | self.buffers

    def snapshot(self) -> State:
        """A copy of the state."""
        return {name: values.detach().clone() for name, values in self.state.items()}

    @torch.no_grad()
    def assign(self, values: Mapping[str, Tensor]) -> None:
        """Give some parameters or buffers new values, of all replicas.

        Raises:
            UsageError: for a name that the model does not have, or a wrong shape.
        """
        for name, own in values.items():
            if name not in self.state:
                raise UsageError(
                    f"after_step gives new values to {name!r}, which the model does not have: its "
                    f"parameters and buffers are {list(self.state)}."
                )
            if own.shape != self.state[name].shape:
                raise UsageError(
                    f"after_step gives {name!r} the shape {tuple(own.shape[1:])} in the place of "
                    f"{tuple(self.state[name].shape[1:])}."
                )
            self.state[name].copy_(own)

    def train(self, training: bool) -> None:
        """Switch all replicas between training and evaluation."""
        self.modules[0].train(training)

    def begin_step(self, step: int, steps: int) -> None:
        """Tell schedules and dropout how far the training is."""
        for name, is_schedule in self._clocks.items():
            self.buffers[name].fill_(step / steps if is_schedule else step + 1)

    def map(self, function: Callable[..., Any], state: State | None = None) -> Callable[..., Any]:
        """`function(model, *arguments)` for all replicas: everything's first axis is the replica.

        Raises:
            UsageError: for a function or model that cannot be evaluated for all replicas at once.
        """
        model = self.modules[0]

        def one(own: State, *arguments: Any) -> Any:
            before = [holder[key] for holder, key, _ in self._slots]
            try:
                for holder, key, name in self._slots:
                    holder[key] = own[name]
                return function(model, *arguments)
            finally:
                for (holder, key, _), values in zip(self._slots, before, strict=True):
                    holder[key] = values

        def every(*arguments: Any) -> Any:
            now = self.state if state is None else state
            if not self._vectorise:
                own = {name: values.squeeze(0) for name, values in now.items()}
                rest = each_tensor(lambda values: values.squeeze(0), arguments)
                return each_tensor(lambda values: values.unsqueeze(0), one(own, *rest))
            try:
                return vmap(one)(now, *arguments)
            except RuntimeError as error:
                advice = self._advice(error)
                if advice is None:
                    raise
                raise advice from error

        return every

    def _advice(self, error: RuntimeError) -> UsageError | None:
        """What to do about a model that `vmap` refuses; None for an error of another kind."""
        text = str(error)
        if "vmap" not in text and "Batching rule not implemented" not in text:
            return None
        if "randomness" in text:
            return UsageError(
                "The model draws random numbers in a way that differs between machines and cannot "
                "be replayed for each seed: write dropout as nn.Dropout, which fit exchanges for a "
                "reproducible one, or draw when the model is made."
            )
        found = {type(own).__name__ for own in self.modules[0].modules()
                 if isinstance(own, _RECURRENT)}  # fmt: skip
        if found:
            return UsageError(
                f"PyTorch's {', '.join(sorted(found))} cannot be trained for all seeds at once: "
                "take mtlbook.layers.recurrent, which computes the same from the same weights, or "
                "pass vectorise=False to train one seed after another."
            )
        return UsageError(
            "This model cannot be trained for all seeds at once: pass vectorise=False to train one "
            f"seed after another. The reason: {error}"
        )

    def operations(self, example: Inputs, tasks: Sequence[Task]) -> int:
        """Floating-point operations that a replica takes to predict one example.

        Raises:
            UsageError: for a model that does not take the example or predict the tasks.
        """
        self.train(False)
        try:
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                predictions = self.modules[0](example)
        except RuntimeError as error:
            shape = tree_map(lambda values: tuple(values.shape), example)
            raise UsageError(
                f"The model does not take inputs of the shape {shape} (one example): {error}"
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


def with_weights(module: nn.Module, state: State, number: int) -> nn.Module:
    """A copy of a model with one replica's weights, for evaluation, on the CPU."""
    own = deepcopy(module).cpu()
    own.load_state_dict({name: values[number] for name, values in state.items()}, strict=False)
    return own.eval()


def _repeated(values: Tensor, times: int) -> Tensor:
    if times == 1:
        return values
    again = values.detach().repeat(times, *[1] * (values.ndim - 1))
    return again.requires_grad_(values.requires_grad)


def _clocks(module: nn.Module) -> dict[str, bool]:
    """The buffers that follow the training: True for a schedule's progress, False for a step."""
    kinds = ((Scheduled, "progress", True), (Stepped, "step", False))
    return {
        f"{name}.{buffer}" if name else buffer: is_schedule
        for name, layer in module.named_modules()
        for kind, buffer, is_schedule in kinds
        if isinstance(layer, kind)
    }


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


def _fresh(build: Build, data: MultiTaskData, seed: int) -> nn.Module:
    default = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(seed, "initialisation").initial_seed())
        try:
            torch.set_default_dtype(torch.float64)
            return build(data, seed)
        finally:
            torch.set_default_dtype(default)
