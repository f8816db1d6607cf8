"""Section 4.1: joint and single-task networks that start alike and choose by the same labels."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtlbook.book.experiments.results import trained_network
from mtlbook.book.experiments.training import adamw, tuned
from mtlbook.book.page import Page
from mtlbook.data import Consecutive, MultiTaskData, SyntheticDataset
from mtlbook.mechanisms.data_augmentation import noise_carried
from mtlbook.randomness import generator
from mtlbook.training.sampling import Mixed
from mtlbook.training.selection import Selected

Made = Callable[[int], SyntheticDataset]

# A half of the grid of two widths, two learning rates and two weight decays: each pair once.
TRIALS = {
    f"width {width}, rate {rate}, decay {decay}": {"width": width, "optimiser": adamw(rate, decay)}
    for width, rate, decay in [(2, 0.03, 0.3), (2, 0.1, 1.0), (8, 0.03, 1.0), (8, 0.1, 0.3)]
}
STEPS, EVERY = 120, 10


class HiddenLayer(nn.Module):
    """A hidden layer of tanh units and a linear head a task, all heads in one matrix product."""

    def __init__(self, inputs: int, width: int, names: Sequence[str]) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(inputs, width), nn.Tanh())
        self.heads = nn.Linear(width, len(names))
        self._names = tuple(names)

    def forward(self, inputs: Float[Tensor, "rows inputs"]) -> dict[str, Tensor]:
        """Each task's prediction, `(rows, 1)`."""
        outputs = self.heads(self.trunk(inputs)).split(1, dim=-1)
        return dict(zip(self._names, outputs, strict=True))


def network(data: MultiTaskData, _seed: int, *, width: int) -> HiddenLayer:
    """A network for the data's tasks."""
    return HiddenLayer(data.inputs.shape[1], width, [task.name for task in data.tasks])


@torch.no_grad()
def common_start(model: HiddenLayer, seed: int, tasks: Sequence[int]) -> None:
    """PyTorch's initial distribution; networks of a seed share the hidden layer and a task's head.

    So joint and single-task networks differ in what they are trained on and in nothing else.
    """
    layers = [(model.trunk[0], ["hidden layer"]), (model.heads, [f"head {k}" for k in tasks])]
    for layer, blocks in layers:
        assert isinstance(layer, nn.Linear)
        shape = layer.out_features // len(blocks), layer.in_features + 1
        drawn = [
            torch.rand(*shape, generator=generator(seed, "weights", block), dtype=torch.float64)
            for block in blocks
        ]
        weights = (2 * torch.cat(drawn) - 1) / layer.in_features**0.5
        layer.weight.copy_(weights[:, :-1])
        layer.bias.copy_(weights[:, -1])


def joint(
    page: Page,
    made: Made,
    split: Consecutive,
    tasks: int,
    *,
    choice: str = "each",
    seeds: Sequence[int] | None = None,
    trials: Mapping[str, Mapping[str, Any]] = TRIALS,
) -> Selected:
    """One network for the first tasks of each seed's data.

    Arguments:
        page: whose seeds and device are used.
        made: a seed's data.
        split: its rows, training first.
        tasks: how many, from the first on.
        choice: by whose validation labels trial and stopping point are chosen: "each", for each
            task its own; "sum", those of all tasks.
        seeds: others than the page's.
        trials: what is chosen from.
    """
    return tuned(
        page,
        network,
        lambda seed: made(seed).data,
        trials,
        tasks=[f"task_{k}" for k in range(1, tasks + 1)],
        seeds=page.seeds if seeds is None else seeds,
        stopping=choice,
        start=lambda model, seed: common_start(model, seed, range(tasks)),
        **_training(split),
    )


def single_task(page: Page, made: Made, split: Consecutive, tasks: int) -> Selected:
    """A network for each of the first tasks of each seed's data, side by side like its replicas.

    The replica `seed * tasks + k` is that of task k, counted from 0.
    """

    def data(replica: int) -> MultiTaskData:
        seed, task = divmod(replica, tasks)
        return made(seed).alone(task)

    return tuned(
        page,
        network,
        data,
        TRIALS,
        seeds=[seed * tasks + task for seed in page.seeds for task in range(tasks)],
        start=lambda model, replica: common_start(model, replica // tasks, [replica % tasks]),
        **_training(split),
    )


def _training(split: Consecutive) -> dict[str, Any]:
    return {"split": split, "steps": STEPS, "sampler": Mixed(None), "validate_every": EVERY}


def errors(selected: Selected, seeds: int) -> Float[np.ndarray, "seeds tasks"]:
    """The test error of each seed and task, of joint as of single-task networks."""
    scores = [selected.score(task) for task in selected.choices]
    return np.stack(scores, axis=-1).reshape(seeds, -1)


def carried(
    selected: Selected, made: Made, seeds: Sequence[int], rows: int
) -> dict[str, Float[np.ndarray, " seeds"]]:
    """For each seed the mean slope of a task's predictions on its own noise and on the others'.

    Arguments:
        selected: joint networks, or single-task networks of at least two tasks.
        made: a seed's data.
        seeds: those of the data.
        rows: training rows, the first ones.
    """
    own, others = [], []
    replicas = np.array(selected.choices.index).reshape(len(seeds), -1)
    for seed, of_seed in zip(seeds, replicas.tolist(), strict=True):
        known = made(seed)
        networks = [
            trained_network(selected, replica, task)(known.data.inputs[:rows])[task]
            for replica in of_seed
            for task in selected.choices
        ]
        tasks = len(networks)
        slopes = noise_carried(
            torch.cat(networks, dim=1), known.signals[:rows, :tasks], known.noise[:rows, :tasks]
        )
        own.append(float(slopes.diagonal().mean()))
        others.append(float(slopes[~torch.eye(tasks, dtype=torch.bool)].mean()))
    return {"its own noise": np.array(own), "another task's noise": np.array(others)}
