"""How fast mixtures of experts are: against loops written by hand, and DeepCTR-Torch's MMoE.

A step is forward, backward and optimiser of a plain loop in float64 on one thread, timed side by
side in processor time; the ratio is what counts. Best with nothing else on the machine:

    pytest tests/benchmarks/bench_mixtures.py -n 0 -s --jaxtyping-packages=

DeepCTR-Torch (0.3.0) is no dependency of this project: where it is not installed, what needs it is
skipped. Its MMoE computes ours once its dials are set to the paper's; by default its gates have a
hidden layer of 64 units. Its last linear layers have no bias, and the prediction layer's bias takes
that part. Its PLE is not compared: it makes as many shared experts as `specific_expert_num` says,
so that another `shared_expert_num` fails or leaves parameters dead, and its last level has a shared
gate that nothing reads.
"""

from collections.abc import Callable
from itertools import pairwise
from statistics import median
from time import process_time
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtlbook.architectures.mixture_of_experts import MixtureOfExperts
from mtlbook.architectures.progressive_layered_extraction import ProgressiveLayeredExtraction
from mtlbook.sharing.hard import HardSharing

ROUNDS, STEPS, ROWS = 9, 30, 64
INPUTS, EXPERTS, WIDTH, TOWER = 100, 8, 16, 8  # the paper's
KEPT_BYTES = 31 * 2**20  # as in bench_cross_stitch


@pytest.fixture(autouse=True)
def one_thread_in_double():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.empty(KEPT_BYTES, dtype=torch.uint8).fill_(0)
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(torch.float32)


def layers(*widths: int) -> list[nn.Module]:
    """A dense layer with a rectifier for each pair of widths."""
    return [nn.Sequential(nn.Linear(below, above), nn.ReLU()) for below, above in pairwise(widths)]


def towers(tasks: int, width: int) -> dict[str, nn.Module]:
    return {
        f"task_{number}": nn.Sequential(nn.Linear(width, TOWER), nn.ReLU(), nn.Linear(TOWER, 1))
        for number in range(tasks)
    }


def mixture(tasks: int, width: int = WIDTH) -> MixtureOfExperts:
    return MixtureOfExperts(
        lambda: layers(INPUTS, width), towers(tasks, width), inputs=INPUTS, experts=EXPERTS
    )


def extraction(tasks: int, width: int = WIDTH) -> ProgressiveLayeredExtraction:
    return ProgressiveLayeredExtraction(
        lambda: layers(INPUTS, width, width),
        towers(tasks, width),
        inputs=[INPUTS, width],
        own=1,
        shared=2,
    )


class ByLoop(nn.Module):
    """The mixture as one writes it by hand: a gate a task, expert by expert."""

    def __init__(self, tasks: int, width: int = WIDTH) -> None:
        super().__init__()
        experts = [nn.Sequential(*layers(INPUTS, width)) for _ in range(EXPERTS)]
        self.experts = nn.ModuleList(experts)
        self.gates = nn.ModuleList(nn.Linear(INPUTS, EXPERTS, bias=False) for _ in range(tasks))
        self.heads = nn.ModuleDict(towers(tasks, width))

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        computed = [expert(inputs) for expert in self.experts]
        predicted = {}
        for gate, (name, head) in zip(self.gates, self.heads.items(), strict=True):
            weights = gate(inputs).softmax(1)
            terms = [weights[:, [i]] * own for i, own in enumerate(computed)]
            predicted[name] = head(torch.stack(terms).sum(0))
        return predicted


def steps_of(model: nn.Module, inputs: Tensor) -> Callable[[], float]:
    """A function that takes some training steps and returns the seconds they took."""
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-4)

    def run() -> float:
        start = process_time()
        for _ in range(STEPS):
            optimiser.zero_grad()
            predicted: Any = model(inputs)
            parts = predicted.values() if isinstance(predicted, dict) else [predicted]
            torch.stack([part.square().sum() for part in parts]).sum().backward()
            optimiser.step()
        return process_time() - start

    run()
    return run


def compared(benchmark: Any, what: str, ours: nn.Module, other: nn.Module) -> None:
    """Time a step of both in turn, and tell the ratio."""
    inputs = torch.randn(ROWS, INPUTS)
    mine, theirs = steps_of(ours, inputs), steps_of(other, inputs)
    ratios = [mine() / theirs() for _ in range(ROUNDS)]
    benchmark.pedantic(mine, rounds=1)
    benchmark.extra_info["ratio"] = median(ratios)
    print(f"\n{what}: {median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f})")


@pytest.mark.parametrize("width", [WIDTH, 64])
@pytest.mark.parametrize("tasks", [2, 6])
def bench_the_mixture_against_a_loop(benchmark, tasks, width):
    what = f"mixture, {tasks} tasks, {EXPERTS} experts of {width}, against the loop"
    compared(benchmark, what, mixture(tasks, width), ByLoop(tasks, width))


@pytest.mark.parametrize("build", [mixture, extraction])
@pytest.mark.parametrize("tasks", [2, 6])
def bench_against_a_shared_bottom(benchmark, tasks, build):
    bottom = HardSharing(lambda: layers(INPUTS, 64), towers(tasks, 64))
    what = f"{build.__name__}, {tasks} tasks, experts of 64, against a shared bottom of 64"
    compared(benchmark, what, build(tasks, 64), bottom)


@pytest.fixture
def theirs():
    """DeepCTR-Torch's MMoE of the paper's shape, as a function of the number of tasks."""
    models = pytest.importorskip("deepctr_torch.models")
    columns = pytest.importorskip("deepctr_torch.inputs")

    def build(tasks: int) -> nn.Module:
        return models.MMOE(
            [columns.DenseFeat(f"x{number}", 1) for number in range(INPUTS)],
            num_experts=EXPERTS,
            expert_dnn_hidden_units=(WIDTH,),
            gate_dnn_hidden_units=(),
            tower_dnn_hidden_units=(TOWER,),
            task_types=["regression"] * tasks,
            task_names=[f"task_{number}" for number in range(tasks)],
        ).double()

    return build


@pytest.mark.parametrize("tasks", [2, 6])
def bench_the_mixture_against_deepctr(benchmark, theirs, tasks):
    ours, other = mixture(tasks), theirs(tasks)
    with torch.no_grad():
        for mine, expert in zip(ours.experts, other.expert_dnn, strict=True):
            layer = mine.get_submodule("0.0")
            layer.load_state_dict(expert.linears[0].state_dict())
        ours.gate.weight.copy_(torch.cat([own.weight for own in other.gate_dnn_final_layer]))
        parts = zip(
            ours.heads.values(),
            other.tower_dnn,
            other.tower_dnn_final_layer,
            other.out,
            strict=True,
        )
        for head, tower, last, out in parts:
            head.get_submodule("0").load_state_dict(tower.linears[0].state_dict())
            head.get_submodule("2").load_state_dict({"weight": last.weight, "bias": out.bias})
    inputs = torch.randn(ROWS, INPUTS)
    predicted = torch.cat(list(ours(inputs).values()), dim=1)
    torch.testing.assert_close(predicted, other(inputs), rtol=1e-12, atol=1e-12)
    compared(benchmark, f"mixture, {tasks} tasks, against DeepCTR-Torch's", ours, other)
