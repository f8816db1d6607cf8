"""How fast cross-stitch networks are: K joined columns against the K separate networks alone.

A step is forward, backward and optimiser of a plain loop in float64 on one thread, timed side by
side in processor time; the ratio is what counts, and 1.5 is the aim. Best with nothing else on the
machine:

    pytest tests/benchmarks/bench_cross_stitch.py -n 0 -s --jaxtyping-packages=
"""

from collections.abc import Callable, Sequence
from statistics import median
from time import process_time
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from mtlbook.architectures.cross_stitch import CrossStitch

ROUNDS, AIM = 9, 1.5
# A block that the C library keeps once it was freed: otherwise what is timed is for a good part
# how often memory is given back to the system and asked for again, which depends on sizes.
KEPT_BYTES = 31 * 2**20


class Trunk(NamedTuple):
    """The stages of a column, its head, a minibatch, and how many steps are timed at once."""

    stages: Callable[[], Sequence[nn.Module]]
    head: Callable[[], nn.Module]
    inputs: Callable[[], Tensor]
    channels: list[int]
    steps: int


def dense(width: int) -> Trunk:
    def stages() -> list[nn.Module]:
        return [nn.Sequential(nn.Linear(width, width), nn.ReLU()) for _ in range(3)]

    return Trunk(
        stages, lambda: nn.Linear(width, 3), lambda: torch.randn(64, width), [width] * 3, 50
    )


def convolutional(channels: int) -> Trunk:
    def stages() -> list[nn.Module]:
        layers = [nn.Conv2d(3, channels, 3, padding=1), nn.Conv2d(channels, channels, 3, padding=1)]
        return [nn.Sequential(layer, nn.ReLU()) for layer in layers]

    return Trunk(
        stages,
        lambda: nn.Conv2d(channels, 3, 1),
        lambda: torch.randn(16, 3, 16, 16),
        [channels] * 2,
        10,
    )


TRUNKS = {"dense 64": dense(64), "dense 128": dense(128), "convolutional": convolutional(8)}


class Separate(nn.Module):
    """A network for each task, one after another."""

    def __init__(self, trunk: Trunk, names: Sequence[str]) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(
            {name: nn.Sequential(*trunk.stages(), trunk.head()) for name in names}
        )

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        return {name: network(inputs) for name, network in self.networks.items()}


@pytest.fixture(autouse=True)
def one_thread_in_double():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.empty(KEPT_BYTES, dtype=torch.uint8).fill_(0)
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(torch.float32)


def steps_of(model: nn.Module, inputs: Tensor, steps: int) -> Callable[[], float]:
    """A function that takes some training steps and returns the seconds they took."""
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-4)

    def run() -> float:
        start = process_time()
        for _ in range(steps):
            optimiser.zero_grad()
            torch.stack([p.square().mean() for p in model(inputs).values()]).sum().backward()
            optimiser.step()
        return process_time() - start

    run()
    return run


@pytest.mark.parametrize("per_channel", [False, True], ids=["a unit a layer", "a unit a channel"])
@pytest.mark.parametrize("columns", [2, 4])
@pytest.mark.parametrize("name", TRUNKS)
def bench_columns(benchmark, name, columns, per_channel):
    trunk = TRUNKS[name]
    names = [f"task_{number}" for number in range(columns)]
    joined = CrossStitch(
        trunk.stages,
        {task: trunk.head() for task in names},
        channels=trunk.channels if per_channel else None,
    )
    inputs = trunk.inputs()
    together = steps_of(joined, inputs, trunk.steps)
    apart = steps_of(Separate(trunk, names), inputs, trunk.steps)
    ratios = [together() / apart() for _ in range(ROUNDS)]
    benchmark.pedantic(together, rounds=1)
    benchmark.extra_info["ratio"] = median(ratios)
    kind = "channel" if per_channel else "layer"
    print(
        f"\n{name}, {columns} columns, a unit a {kind}: {median(ratios):.2f} times the separate "
        f"networks ({min(ratios):.2f} to {max(ratios):.2f}; aim {AIM} at most)"
    )
