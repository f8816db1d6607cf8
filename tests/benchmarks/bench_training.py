"""How fast `fit` is: seeds at once against one after another, trials likewise, one seed by hand.

Everything is timed side by side in one run, on one thread, and the ratio is what counts: machines
differ and are rarely idle. Run with nothing else on the machine, and without the checks of types
that slow the other tests down:

    pytest tests/benchmarks -n 0 -s --jaxtyping-packages=
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from statistics import median
from time import process_time

import pytest
import torch
from torch import nn

from mtlbook import (
    Fit,
    HardSharing,
    Holdout,
    MultiTaskData,
    Settings,
    Task,
    Trial,
    fit,
    fit_trials,
)
from mtlbook.randomness import generator
from mtlbook.training.replicas import Build
from mtlbook.training.sampling import Mixed

TASKS = [Task.regression("first"), Task.regression("second")]
SEEDS, STEPS, ROUNDS = 32, 200, 3
# Widths of input and hidden layers, rows a batch, and how much faster 32 seeds at once should be.
NETWORKS = {"64-32-32": (64, 32, 32, 7.0), "64-64-64": (64, 64, 64, 4.0)}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_data(width: int) -> MultiTaskData:
    inputs = torch.randn(1500, width, generator=generator(0, "inputs"), dtype=torch.float64)
    targets = {"first": inputs[:, 0] * inputs[:, 1], "second": inputs[:, 0] + inputs[:, 2]}
    return MultiTaskData.multi_label(TASKS, inputs, targets)


def network(width: int, hidden: int) -> HardSharing:
    def stages() -> list[nn.Module]:
        return [nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]

    return HardSharing(stages, {task.name: nn.Linear(hidden, task.outputs) for task in TASKS})


def builder(width: int, hidden: int) -> Build:
    return lambda data, seed: network(width, hidden)


def seconds(call: Callable[[], object]) -> float:
    """Of processor time, which other processes on the machine change less."""
    start = process_time()
    call()
    return process_time() - start


def product_rate() -> float:
    """The machine's own rate of float64 matrix products, operations a second."""
    matrix = torch.randn(512, 512, dtype=torch.float64)
    return 20 * 2 * 512**3 / seconds(lambda: [matrix @ matrix for _ in range(20)])


@pytest.mark.parametrize("widths", NETWORKS)
def bench_all_seeds_at_once(benchmark, widths):
    width, hidden, batch, aim = NETWORKS[widths]
    data, build = make_data(width), builder(width, hidden)

    def run(vectorise: bool) -> Fit:
        settings = Settings(steps=STEPS, sampler=Mixed(batch), vectorise=vectorise)
        return fit(build, data, seeds=range(SEEDS), settings=settings)

    ratios, shares = [], []
    for _ in range(ROUNDS):
        apart = seconds(lambda: run(False))
        rate = product_rate()
        together = seconds(lambda: run(True))
        ratios.append(apart / together)
        shares.append(run(True).cost.training.sum() / together / rate)
    benchmark.pedantic(run, args=(True,), rounds=1)
    benchmark.extra_info |= {"ratio": median(ratios), "share": median(shares)}
    print(
        f"\n{widths}, {SEEDS} seeds, batches of {batch}: at once {median(ratios):.2f} times as "
        f"fast as one after another ({min(ratios):.2f} to {max(ratios):.2f}; aim {aim}), at "
        f"{median(shares):.0%} of the machine's float64 matrix-product rate"
    )


@pytest.mark.parametrize("width", [8, 32])
def bench_trials_at_once(benchmark, width):
    """Four trials of a network as small as the chapters', with 16 seeds."""
    data, build = make_data(16), builder(16, width)
    rates = (0.001, 0.003, 0.01, 0.03)
    optimisers = {f"rate {r}": partial(torch.optim.Adam, lr=r, fused=True) for r in rates}
    trials = {name: Trial(optimiser=own) for name, own in optimisers.items()}
    settings, seeds = Settings(steps=STEPS), range(16)

    def at_once() -> dict[str, Fit]:
        return fit_trials(build, data, seeds=seeds, trials=trials, settings=settings)

    def one_by_one() -> dict[str, Fit]:
        return {
            name: fit(build, data, seeds=seeds, settings=replace(settings, optimiser=own))
            for name, own in optimisers.items()
        }

    ratios = [seconds(one_by_one) / seconds(at_once) for _ in range(ROUNDS)]
    benchmark.pedantic(at_once, rounds=1)
    benchmark.extra_info["ratio"] = median(ratios)
    print(
        f"\n16-{width}-{width}, 16 seeds, 4 trials: at once {median(ratios):.2f} times as fast as "
        f"one after another ({min(ratios):.2f} to {max(ratios):.2f})"
    )


@pytest.mark.parametrize("widths", NETWORKS)
def bench_one_seed(benchmark, widths):
    width, hidden, batch, _ = NETWORKS[widths]
    data, build = make_data(width), builder(width, hidden)
    steps = 5 * STEPS

    def by_fit() -> Fit:
        settings = Settings(steps=steps, sampler=Mixed(batch), stopping="sum")
        return fit(build, data, seeds=[0], settings=settings)

    def by_hand() -> None:
        """What a reader would write: minibatches, validation, the best weights, a test."""
        split = Holdout().draw(data, 0)
        model = network(width, hidden).double()
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

        def loss_on(rows: torch.Tensor) -> torch.Tensor:
            predicted = model(data.inputs[rows])
            return torch.stack(
                [
                    task.loss(predicted[task.name], data.targets[task.name][rows]).mean()
                    for task in TASKS
                ]
            ).sum()

        best, kept, order = torch.inf, {}, torch.empty(0, dtype=torch.long)
        for step in range(steps):
            if len(order) < batch:
                order = split.train[torch.randperm(len(split.train))]
            rows, order = order[:batch], order[batch:]
            optimiser.zero_grad()
            loss = loss_on(rows)
            loss.backward()
            optimiser.step()
            if not torch.isfinite(loss):
                raise RuntimeError
            if (step + 1) % (steps // 50) == 0:
                with torch.no_grad():
                    validation = float(loss_on(split.validation))
                if validation < best:
                    best, kept = validation, {n: v.clone() for n, v in model.state_dict().items()}
        model.load_state_dict(kept)
        with torch.no_grad():
            loss_on(split.test)

    ratios = [seconds(by_fit) / seconds(by_hand) for _ in range(ROUNDS)]
    benchmark.pedantic(by_fit, rounds=1)
    benchmark.extra_info["ratio"] = median(ratios)
    print(
        f"\n{widths}, one seed, batches of {batch}: fit takes {median(ratios):.2f} times as long "
        f"as a loop by hand ({min(ratios):.2f} to {max(ratios):.2f}; aim 1.3 at most)"
    )
