"""How fast section 6's architectures are: a training step, against a loop by hand and hard sharing.

A step is forward, backward and optimiser of a plain loop in float64 on one thread, two layers of 64
units and 64 examples, timed side by side in processor time. The loop by hand is the same network,
with the same parameters, written task by task with Python's own sums. The ratios are what counts;
they are of medians, and best with nothing else on the machine:

    pytest tests/benchmarks/bench_architectures.py -n 0 -s --jaxtyping-packages=

A further architecture is an entry of `ENTRIES`: what builds it for some tasks, and its loop.
"""

from collections.abc import Callable, Mapping
from statistics import median
from time import process_time
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from mtlbook.architectures.cross_stitch import CrossStitch
from mtlbook.architectures.deep_relationship_networks import DeepRelationshipNetwork
from mtlbook.architectures.fully_adaptive_sharing import Tree, TreeNetwork
from mtlbook.architectures.joint_many_task import JointManyTask
from mtlbook.architectures.low_supervision import LowSupervision
from mtlbook.architectures.mixture_of_experts import MixtureOfExperts
from mtlbook.architectures.multi_task_attention import MultiTaskAttention
from mtlbook.architectures.progressive_layered_extraction import ProgressiveLayeredExtraction
from mtlbook.architectures.sluice_networks import Sluice
from mtlbook.architectures.tensor_factorisation import TensorFactorisation
from mtlbook.sharing.hard import HardSharing

UNITS, EXAMPLES, OUTPUTS = 64, 64, 3
ROUNDS, STEPS = 7, 10
# A block that the C library keeps once it was freed: see bench_cross_stitch.
KEPT_BYTES = 31 * 2**20

Predictions = Mapping[str, Tensor]


class Entry(NamedTuple):
    """An architecture: its network of some tasks, and the same computation by hand.

    What both return beside the predictions, a penalty, is added to the loss.
    """

    build: Callable[[int], nn.Module]
    loop: Callable[[Any, Tensor], Predictions]
    penalty: Callable[[Any], Tensor] | None = None
    loop_penalty: Callable[[Any], Tensor] | None = None


def layer(inputs: int = UNITS) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, UNITS), nn.Tanh())


def stages() -> list[nn.Module]:
    return [layer(), layer()]


def heads(tasks: int) -> dict[str, nn.Module]:
    return {f"task_{number}": nn.Linear(UNITS, OUTPUTS) for number in range(tasks)}


def halves(tasks: int) -> Tree:
    """Two branches of tasks from the second layer on."""
    return Tree.trunk(tasks, 2).split(1, [int(2 * task >= tasks) for task in range(tasks)])


def joint(tasks: int) -> JointManyTask:
    """A level for each task, which reads the level below, the input and all lower labels."""
    below = UNITS + UNITS + 8
    return JointManyTask(
        lambda: [nn.Identity(), layer(), *(layer(below) for _ in range(tasks - 1))],
        heads(tasks),
        labels=dict.fromkeys(list(heads(tasks))[:-1], OUTPUTS),
        width=8,
    )


# By hand ------------------------------------------------------------------------------------------


def stitched(model: CrossStitch, x: Tensor) -> Predictions:
    features = dict.fromkeys(model.heads, x)
    for place, alpha in enumerate(model.mixing):
        columns = model.columns.items()
        computed = [column.get_submodule(str(place))(features[name]) for name, column in columns]
        features = {
            name: sum(alpha[i, j] * own for j, own in enumerate(computed))
            for i, name in enumerate(model.heads)
        }
    return {name: head(features[name]) for name, head in model.heads.items()}


def forward(model: nn.Module, x: Tensor) -> Predictions:
    return model(x)


def trunk_again(model: HardSharing, x: Tensor) -> Predictions:
    """The trunk for each task anew."""
    return {name: head(model.branches[name](model.trunk(x))) for name, head in model.heads.items()}


def pairs_of_tasks(model: DeepRelationshipNetwork) -> Tensor:
    """The prior of the heads' weights, a pair of tasks after the other."""
    total = torch.zeros(())
    covariances = dict(model.relations[0].named_buffers())
    inverse = {name: torch.linalg.inv(own) for name, own in covariances.items()}
    weights = [head.get_parameter("weight").T for head in model.heads.values()]
    for s, first in enumerate(weights):
        for t, second in enumerate(weights):
            inner = first.T @ inverse.get("features", torch.eye(UNITS)) @ second
            inner = inner @ inverse.get("outputs", torch.eye(OUTPUTS))
            total = total + inverse["tasks"][s, t] * inner.trace() / 2
    return total


def along_paths(model: TreeNetwork, x: Tensor) -> Predictions:
    found = {}
    for task, (name, head) in enumerate(model.heads.items()):
        features = x
        for place, groups in enumerate(model.tree.groups):
            features = model.get_submodule(f"branches.{place}.{groups[task]}")(features)
        found[name] = head(features)
    return found


def from_below(model: LowSupervision, x: Tensor) -> Predictions:
    """Each task's layers anew, from the input on."""
    found = {}
    for name, head in model.heads.items():
        features = x
        for number in range(model.at[name]):
            features = model.layers[number](features)
        found[name] = head(features)
    return found


def label_by_label(model: JointManyTask, x: Tensor) -> Predictions:
    found: dict[str, Tensor] = {}
    states, label = x, torch.zeros(len(x), 8)
    for place, (name, head) in enumerate(model.heads.items()):
        entering = torch.cat([states, x, label], 1) if place else x
        states = model.levels[place](entering)
        found[name] = head(states)
        if name in model.labels:
            chances, vectors = found[name].softmax(1), model.labels[name]
            label = label + sum(chances[:, [j]] * vectors[j] for j in range(OUTPUTS))
    return found


def task_by_task(model: TensorFactorisation, x: Tensor) -> Predictions:
    """A plain network for each task, with the weights that its factors give."""
    found, column = {}, nn.Sequential(*stages())
    for number, (name, head) in enumerate(model.heads.items()):
        own = {}
        for weight, (common, mixing) in model.factors.items():
            own[weight] = sum(common[..., k] * mixing[k, number] for k in range(len(mixing)))
        for key, biases in model.named_parameters():
            if ".own." in key:
                _, place, _, bias = key.split(".")
                own[f"{place}.{bias.replace('/', '.')}"] = biases[number]
        found[name] = head(functional_call(column, own, (x,)))
    return found


def part_by_part(model: Sluice, x: Tensor) -> Predictions:
    names, size = list(model.heads), UNITS // model.subspaces
    features, mixtures = dict.fromkeys(names, x), dict.fromkeys(names, torch.zeros(()))
    for place, alpha in enumerate(model.alpha):
        parts = []
        for name in names:
            computed = model.columns[name].get_submodule(str(place))(features[name])
            parts += computed.split(size, 1)
        weighted = [[a * own for a, own in zip(row, parts, strict=True)] for row in alpha]
        mixed = [torch.stack(terms).sum(0) for terms in weighted]
        for number, name in enumerate(names):
            start = number * model.subspaces
            features[name] = torch.cat(mixed[start : start + model.subspaces], 1)
            mixtures[name] = mixtures[name] + model.beta[number, place] * features[name]
    return {name: head(mixtures[name]) for name, head in model.heads.items()}


def expert_by_expert(model: MixtureOfExperts, x: Tensor) -> Predictions:
    found = {}
    experts, size = [expert(x) for expert in model.experts], len(model.experts)
    for number, (name, head) in enumerate(model.heads.items()):
        mine = slice(number * size, (number + 1) * size)
        bias = None if model.gate.bias is None else model.gate.bias[mine]
        gate = nn.functional.linear(x, model.gate.weight[mine], bias).softmax(1)
        found[name] = head(sum(gate[:, [k]] * own for k, own in enumerate(experts)))
    return found


def level_by_level(model: ProgressiveLayeredExtraction, x: Tensor) -> Predictions:
    def mixed(gate: nn.Module, selector: Tensor, computed: list[Tensor]) -> Tensor:
        weights = gate(selector).softmax(1)
        return sum((weights[:, [k]] * own for k, own in enumerate(computed)), torch.zeros(()))

    paths, common = dict.fromkeys(model.heads, x), x
    for level, gates in enumerate(model.task_gates):
        shared = [expert.get_submodule(str(level))(common) for expert in model.shared]
        own = {
            name: [one.get_submodule(str(level))(paths[name]) for one in model.own[name].children()]
            for name in model.heads
        }
        if level < len(model.shared_gates):
            every = [one for computed in own.values() for one in computed]
            common = mixed(model.shared_gates[level], common, every + shared)
        paths = {
            name: mixed(gates.get_submodule(name), paths[name], own[name] + shared)
            for name in model.heads
        }
    return {name: head(paths[name]) for name, head in model.heads.items()}


def mask_by_mask(model: MultiTaskAttention, x: Tensor) -> Predictions:
    """The trunk for each task anew, blocks of two stages."""
    found = {}
    for name, masks in model.attention.items():
        features, attended = x, None
        for place, mask in enumerate(masks.children()):
            first = model.trunk[2 * place](features)
            features = model.trunk[2 * place + 1](first)
            read = [first] if attended is None else [first, model.readers[place - 1](attended)]
            attended = mask(torch.cat(read, 1)) * features
        found[name] = model.heads[name](attended)
    return found


def experts(tasks: int) -> MixtureOfExperts:
    return MixtureOfExperts(stages, heads(tasks), inputs=UNITS, experts=4)


def extraction(tasks: int) -> ProgressiveLayeredExtraction:
    return ProgressiveLayeredExtraction(
        stages, heads(tasks), inputs=[UNITS, UNITS], own=1, shared=2
    )


def attention(tasks: int) -> MultiTaskAttention:
    # Two blocks, each of a linear layer and its tanh.
    return MultiTaskAttention(
        lambda: [nn.Linear(UNITS, UNITS), nn.Tanh(), nn.Linear(UNITS, UNITS), nn.Tanh()],
        heads(tasks),
        channels=[UNITS] * 4,
        block=2,
    )


ENTRIES = {
    "6.1 deep relationship": Entry(
        lambda tasks: DeepRelationshipNetwork(stages, heads(tasks)),
        trunk_again,
        lambda model: model.prior(),
        pairs_of_tasks,
    ),
    "6.2 tree": Entry(lambda tasks: TreeNetwork(stages, heads(tasks), halves(tasks)), along_paths),
    "6.3 cross-stitch": Entry(lambda tasks: CrossStitch(stages, heads(tasks)), stitched),
    "6.4 low supervision": Entry(
        lambda tasks: LowSupervision(stages, heads(tasks), at={"task_0": 1}), from_below
    ),
    "6.5 joint many-task": Entry(joint, label_by_label),
    "6.7 tensor factorisation": Entry(
        lambda tasks: TensorFactorisation(stages, heads(tasks), ranks=2), task_by_task
    ),
    "6.8 sluice": Entry(lambda tasks: Sluice(stages, heads(tasks)), part_by_part),
    "8.1 mixture of experts": Entry(experts, expert_by_expert),
    "8.1 layered extraction": Entry(extraction, level_by_level),
    "6.9 multi-task attention": Entry(attention, mask_by_mask),
}


@pytest.fixture(autouse=True)
def one_thread_in_double():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.empty(KEPT_BYTES, dtype=torch.uint8).fill_(0)
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(torch.float32)


def steps_of(
    model: nn.Module,
    x: Tensor,
    predict: Callable[[Any, Tensor], Predictions] = forward,
    penalty: Callable[[Any], Tensor] | None = None,
) -> Callable[[], float]:
    """A function that takes some training steps and returns the seconds that one took."""
    trained = [values for values in model.parameters() if values.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=1e-4)

    def run() -> float:
        start = process_time()
        for _ in range(STEPS):
            optimiser.zero_grad()
            losses = [own.square().mean() for own in predict(model, x).values()]
            losses += [] if penalty is None else [penalty(model)]
            torch.stack(losses).sum().backward()
            optimiser.step()
        return (process_time() - start) / STEPS

    run()
    return run


@pytest.mark.parametrize("tasks", [2, 6])
@pytest.mark.parametrize("name", ENTRIES)
def bench_step(benchmark, name, tasks):
    entry, x = ENTRIES[name], torch.randn(EXAMPLES, UNITS)
    model, hard = entry.build(tasks), HardSharing(stages, heads(tasks))
    for task, prediction in entry.loop(model, x).items():
        torch.testing.assert_close(prediction, model(x)[task])
    if entry.penalty is not None and entry.loop_penalty is not None:
        torch.testing.assert_close(entry.penalty(model), entry.loop_penalty(model))
    own = steps_of(model, x, penalty=entry.penalty)
    loop = steps_of(model, x, entry.loop, entry.loop_penalty)
    shared = steps_of(hard, x)
    times = [(own(), loop(), shared()) for _ in range(ROUNDS)]
    taken, by_hand, reference = (median(column) for column in zip(*times, strict=True))
    benchmark.pedantic(own, rounds=1)
    benchmark.extra_info |= {"loop": taken / by_hand, "hard sharing": taken / reference}
    print(
        f"\n{name}, {tasks} tasks: {1000 * taken:.2f} ms a step, {taken / by_hand:.2f} times the "
        f"loop by hand, {taken / reference:.1f} times hard sharing"
    )
