"""How fast a step with balanced gradients is, and the solvers of its weights.

A whole step (forward, the tasks' gradients, their Gramian, the solver, SGD) with K tasks of random
targets, which conflict, against TorchJD at the best of its settings (where it is installed) and
against PCGrad's rule on the gradients themselves, one backward pass a task, as most released code
has it. All arms take turns in one process on one thread in float32, in time of the process; the
ratio is what counts. Batches of 32 are where linear layers' coordinates help, those of 128 hardly.
Run without the checks of types that slow the other tests down:

    pytest tests/benchmarks -n 0 -s --jaxtyping-packages=
"""

from collections.abc import Callable
from copy import deepcopy
from importlib.util import find_spec
from statistics import median
from time import process_time
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtlbook.balancing.backward import backward
from mtlbook.balancing.mgda import min_norm_weights
from mtlbook.balancing.pcgrad import PCGrad
from mtlbook.balancing.upgrad import UPGrad, projections
from mtlbook.combiner import Combiner
from mtlbook.randomness import generator

ROUNDS, INPUTS, WIDTH = 15, 64, 256
# How many times as fast as TorchJD's best a step should be.
AIMS = {2: None, 3: None, 10: 1.4, 20: None, 40: 2.0}

Step = Callable[[], None]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Network(nn.Module):
    def __init__(self, tasks: int, rows: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(INPUTS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU()
        )
        self.heads = nn.ModuleList(nn.Linear(WIDTH, 1) for _ in range(tasks))
        source = generator(tasks, "batch")
        self.x = torch.randn(rows, INPUTS, generator=source)
        self.y = torch.randn(tasks, rows, generator=source)

    def losses(self, features: Tensor) -> list[Tensor]:
        pairs = zip(self.heads, self.y, strict=True)
        return [(head(features)[:, 0] - y).square().mean() for head, y in pairs]


def ours(model: Network, rule: type[Combiner]) -> Step:
    parameters, combiner = (
        list(model.parameters()),
        rule([f"task_{n}" for n in range(len(model.y))]),
    )

    def step() -> None:
        backward(model.losses(model.trunk(model.x)), parameters, combiner)

    return step


def pcgrad_on_vectors(model: Network) -> Step:
    """A backward pass a task, and each pair of gradients as vectors of all shared parameters."""
    shared = list(model.trunk.parameters())

    def step() -> None:
        losses = model.losses(model.trunk(model.x))
        rows = []
        for loss in losses:
            own = torch.autograd.grad(loss, shared, retain_graph=True)
            rows.append(torch.cat([gradient.flatten() for gradient in own]))
        jacobian = torch.stack(rows)
        changed = jacobian.clone()
        for i in range(len(rows)):
            for j in np.random.permutation(len(rows)):  # noqa: NPY002
                product = changed[i] @ jacobian[j]
                if j != i and product < 0:
                    changed[i] -= product / jacobian[j].square().sum() * jacobian[j]
        combined = changed.sum(0).split([parameter.numel() for parameter in shared])
        for parameter, gradient in zip(shared, combined, strict=True):
            parameter.grad = gradient.view_as(parameter)
        torch.stack(losses).sum().backward(inputs=list(model.heads.parameters()))

    return step


def torchjd_steps(model: Network) -> dict[str, Step]:
    """UPGrad by each of TorchJD's engines, its regularisation as small as its solver bears."""
    from torchjd import aggregation, autogram, autojac, linalg  # pyright: ignore

    projector: dict[str, Any] = {"projector": linalg.QuadprogProjector(norm_eps=0.0, reg_eps=1e-6)}
    shared = list(model.trunk.parameters())
    hooked = deepcopy(model)  # its engine hooks the modules for good
    engine = autogram.Engine(hooked.trunk, batch_dim=None)
    weighting = aggregation.UPGradWeighting(**projector)

    def by_gramian() -> None:
        hooked.zero_grad()
        losses = torch.stack(hooked.losses(hooked.trunk(hooked.x)))
        losses.backward(weighting(engine.compute_gramian(losses)))
        for parameter, its in zip(model.parameters(), hooked.parameters(), strict=True):
            parameter.grad = its.grad

    def by_jacobian(chunk: int | None, optimised: bool) -> Step:
        aggregator = aggregation.UPGrad(**projector)

        def step() -> None:
            features = model.trunk(model.x)
            losses = model.losses(features)
            autojac.mtl_backward(losses, features=features, parallel_chunk_size=chunk)
            autojac.jac_to_grad(shared, aggregator, optimize_gramian_computation=optimised)

        return step

    found: dict[str, Step] = {"autogram": by_gramian}
    for chunk in (None, 1):
        for optimised in (True, False):
            found[f"jac chunk {chunk} optimised {optimised}"] = by_jacobian(chunk, optimised)
    return found


def milliseconds(model: Network, step: Step) -> float:
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-4)
    start = process_time()
    optimiser.zero_grad()
    step()
    optimiser.step()
    return 1000 * (process_time() - start)


def trunk_gradient(model: Network, step: Step) -> Tensor:
    model.zero_grad()
    step()
    return torch.cat([p.grad.flatten() for p in model.trunk.parameters() if p.grad is not None])


@pytest.mark.parametrize("rows", [32, 128])
@pytest.mark.parametrize("tasks", AIMS)
def bench_a_step(benchmark, tasks, rows):
    torch.manual_seed(0)
    model = Network(tasks, rows)
    steps = {
        "sum": ours(model, Combiner),
        "UPGrad": ours(model, UPGrad),
        "PCGrad": ours(model, PCGrad),
        "PCGrad on vectors": pcgrad_on_vectors(model),
    }
    installed = all(find_spec(name) for name in ("torchjd", "qpsolvers", "quadprog"))
    peers = torchjd_steps(model) if installed else {}
    expected = trunk_gradient(model, steps["UPGrad"])
    print(f"\n{tasks} tasks, {INPUTS}-{WIDTH}-{WIDTH}, batches of {rows}:")
    for name, step in peers.items():
        cosine = nn.functional.cosine_similarity(trunk_gradient(model, step), expected, dim=0)
        if cosine < 1 - 1e-6:
            print(f"  TorchJD {name} steps elsewhere: 1 - cosine = {1 - float(cosine):.1e}")
    steps |= peers
    times = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            times[name].append(milliseconds(model, step))
    typical = {name: median(own) for name, own in times.items()}
    benchmark.pedantic(steps["UPGrad"], rounds=1)
    benchmark.extra_info |= typical
    for name, value in typical.items():
        print(f"  {name}: {value:.2f} ms, {value / typical['sum']:.1f} times the sum of losses")
    if peers:
        best = min(peers, key=typical.__getitem__)
        ratios = [b / a for a, b in zip(times["UPGrad"], times[best], strict=True)]
        aim = f"; aim {AIMS[tasks]}" if AIMS[tasks] else ""
        print(
            f"  UPGrad {median(ratios):.2f} times as fast as TorchJD's best, {best} "
            f"({min(ratios):.2f} to {max(ratios):.2f}{aim})"
        )
    pairs = zip(times["PCGrad"], times["PCGrad on vectors"], strict=True)
    ratios = [b / a for a, b in pairs]
    print(
        f"  PCGrad {median(ratios):.2f} times as fast as on vectors "
        f"({min(ratios):.2f} to {max(ratios):.2f})"
    )


@pytest.mark.parametrize("tasks", [10, 20, 40])
def bench_solvers(benchmark, tasks):
    """Milliseconds a Gramian, over random ones whose tasks conflict."""
    source = np.random.default_rng(0)
    jacobians = source.standard_normal((50, tasks, 3 * tasks)) - 0.1
    gramians = jacobians @ jacobians.transpose(0, 2, 1)
    solvers = {"MGDA": min_norm_weights, "UPGrad": projections}
    for name, solve in solvers.items():
        times = []
        for gramian in gramians:
            start = process_time()
            solve(gramian)
            times.append(1000 * (process_time() - start))
        print(f"\n{name}, {tasks} tasks: {median(times):.2f} ms")
    benchmark.pedantic(lambda: [projections(gramian) for gramian in gramians], rounds=1)
