import math
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.sharing.hard import HardSharing
from mtlbook.tasks import Task
from mtlbook.training import replicas
from mtlbook.training.fit import Fit, TrainingDivergedError, _Group, fit, fit_trials
from mtlbook.training.minibatches import Minibatches

LEVEL, KIND = Task.regression("level"), Task.classification("kind", classes=3)
TASKS = (LEVEL, KIND)


def make_data(seed: int = 0, rows: int = 120) -> MultiTaskData:
    draws = generator(seed, "test data")
    inputs = torch.randn(rows, 5, generator=draws, dtype=torch.float64)
    scores = inputs @ torch.randn(5, 4, generator=draws, dtype=torch.float64)
    return MultiTaskData.multi_label(
        TASKS, inputs, {"level": scores[:, 0], "kind": scores[:, 1:].argmax(1)}
    )


def build(branch_at: int | None = None) -> HardSharing:
    stages = [nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh()]
    return HardSharing(stages, TASKS, width=8, branch_at=branch_at)


def train(**options: Any) -> Fit:
    return fit(build, **{"steps": 20, "learning_rate": 1e-2, "every": 5, **options})


def network(fitted: Fit, seed: int) -> HardSharing:
    model = fitted.model(seed)
    assert isinstance(model, HardSharing)
    return model


def values(table: Any, column: str = "value") -> Any:
    keys = [name for name in table.columns if name != column]
    return table.set_index(keys)[column].sort_index()


def assert_same(one: Fit, other: Fit) -> None:
    pd.testing.assert_series_equal(values(one.results), values(other.results), rtol=1e-9)
    histories = values(one.history, "loss"), values(other.history, "loss")
    pd.testing.assert_series_equal(histories[0], histories[1], rtol=1e-9)
    for name, predicted in one.predictions.items():
        np.testing.assert_allclose(predicted, other.predictions[name], rtol=1e-9, atol=1e-9)


class LearntWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def forward(self, losses: Tensor) -> Tensor:
        return (losses * torch.exp(-self.log_variance) + self.log_variance).sum()


def smaller_weights(model: nn.Module, step_size: float) -> dict[str, Tensor]:
    weight = dict(model.named_parameters())["trunk.0.weight"]
    return {"trunk.0.weight": torch.sign(weight) * (weight.abs() - 2 * step_size).clamp(min=0)}


OPTIONS = {
    "joint": {},
    "alternating": {"sampling": "alternating"},
    "balanced": {"sampling": "balanced"},
    "whole batches": {"batch_size": None},
    "each task stops alone": {"stopping": "each", "patience": 2},
    "last weights": {"stopping": None},
    "one task": {"tasks": ["kind"]},
    "few labels": {"split": Holdout(labels={"level": 15})},
    "a weighting that learns": {"weighting": LearntWeights()},
    "a balancer": {"balancer": lambda gramian: 1 / gramian.diagonal().sqrt()},
    "a regulariser": {"regulariser": lambda model: model.trunk[0].weight.square().sum()},
    "a proximal map": {"proximal": smaller_weights},
    "another optimiser": {"optimiser": partial(torch.optim.SGD, lr=0.01, momentum=0.9)},
    "a schedule": {"schedule": lambda step: 1 / (1 + step)},
    "a data set a seed": {"data": make_data},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_all_seeds_at_once_equal_one_after_another(options):
    options = {"data": make_data(), "seeds": [3, 0, 8], **options}
    assert_same(train(**options), train(**options, vectorise=False))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_seed_does_not_depend_on_its_neighbours(options):
    options = {"data": make_data(), **options}
    together, alone = train(seeds=range(4), **options), train(seeds=[2], **options)
    mine = together.results[together.results.seed == 2]
    pd.testing.assert_series_equal(values(mine), values(alone.results), rtol=1e-9)


OPTIMISERS = {
    "Adam, slow": partial(torch.optim.Adam, lr=1e-3),
    "AdamW": partial(torch.optim.AdamW, lr=0.03, weight_decay=1.0, fused=True),
    "gradient descent": partial(torch.optim.SGD, lr=0.01, momentum=0.9),
}
# A trial has its own optimiser, and a proximal map the step size of one.
OF_TRIALS = {
    name: options for name, options in OPTIONS.items() if not {"optimiser", "proximal"} & {*options}
}


@pytest.mark.parametrize("options", OF_TRIALS.values(), ids=OF_TRIALS)
def test_all_trials_at_once_equal_one_after_another(options):
    options = {"data": make_data(), "seeds": [3, 0], "steps": 20, "every": 5, **options}
    trials = fit_trials(build, optimisers=OPTIMISERS, **options)
    assert list(trials) == list(OPTIMISERS)
    for name, optimiser in OPTIMISERS.items():
        alone = fit(build, optimiser=optimiser, **options)
        assert_same(trials[name], alone)
        assert trials[name].seeds == alone.seeds
        assert (trials[name].cost.steps == alone.cost.steps).all()
        np.testing.assert_array_equal(trials[name].test, alone.test)
        for task in alone.tasks:
            own, other = (each.model(0, task.name) for each in (trials[name], alone))
            for one, another in zip(own.parameters(), other.parameters(), strict=True):
                torch.testing.assert_close(one, another, rtol=1e-9, atol=1e-12)


def test_trials_that_do_not_fit_into_memory_together_train_in_smaller_groups(monkeypatch):
    options = {"data": make_data(), "steps": 10, "optimisers": OPTIMISERS, "seeds": range(4)}
    whole = fit_trials(build, **options)
    original = _Group.train

    def small_memory(self, advanced):
        if len(self.members) > 2 * len(OPTIMISERS):
            raise MemoryError
        return original(self, advanced)

    monkeypatch.setattr(_Group, "train", small_memory)
    for name, trial in fit_trials(build, **options).items():
        assert_same(trial, whole[name])


def test_trials_are_refused_what_only_one_can_have():
    options = {"data": make_data(), "seeds": [0], "steps": 2}
    with pytest.raises(UsageError, match=r"do not take \['proximal', 'vectorise'\]: call fit"):
        fit_trials(
            build, optimisers=OPTIMISERS, proximal=smaller_weights, vectorise=False, **options
        )
    with pytest.raises(UsageError, match="no trial: name at least one"):
        fit_trials(build, optimisers={}, **options)


def test_a_trial_that_diverges_is_named():
    wild = {**OPTIMISERS, "wild": partial(torch.optim.SGD, lr=1e300)}
    with pytest.raises(TrainingDivergedError, match="for seed 7 in the trial 'wild' at step"):
        fit_trials(build, make_data(), optimisers=wild, seeds=[7], steps=50)


@pytest.mark.parametrize("sampling", ["mixed", "balanced", "alternating"])
def test_equals_a_loop_written_by_hand(sampling):
    data, seed, steps, size = make_data(), 5, 30, 16
    split = Holdout().draw(data, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(seed, "initialisation").initial_seed())
        torch.set_default_dtype(torch.float64)
        model = build()
        torch.set_default_dtype(torch.float32)
    turns = len(TASKS) if sampling == "alternating" else 1
    optimisers = [torch.optim.Adam(model.parameters(), lr=1e-2) for _ in range(turns)]
    names = ["mixed"] if sampling == "mixed" else [task.name for task in TASKS]
    batches = {name: Minibatches([split.train], size, [seed], name) for name in names}
    for step in range(steps):
        taught = TASKS if turns == 1 else [TASKS[step % 2]]
        served = names if turns == 1 else [taught[0].name]
        rows = {name: batches[name].take(1)[0, 0] for name in served}
        loss = torch.zeros((), dtype=torch.float64)
        for task in taught:
            own = rows["mixed" if sampling == "mixed" else task.name]
            predicted, target = model(data.inputs[own])[task.name], data.targets[task.name][own]
            loss = loss + task.loss(predicted, target).mean()
        optimiser = optimisers[step % turns]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    fitted = fit(
        build, data, seeds=[seed], steps=steps, batch_size=size, sampling=sampling,
        learning_rate=1e-2, stopping=None,
    )  # fmt: skip
    for name, own in fitted.model(seed).state_dict().items():
        torch.testing.assert_close(own, model.state_dict()[name], rtol=1e-9, atol=1e-12)


def test_results_are_those_of_the_predictions():
    data = make_data()
    fitted = train(data=data, seeds=range(3))
    for row, seed in enumerate(fitted.seeds):
        test = torch.as_tensor(fitted.test[row])
        assert set(fitted.test[row]) == set(Holdout().draw(data, seed).test.tolist())
        with torch.no_grad():
            predicted = fitted.model(seed)(data.inputs[test])
        error = (predicted["level"] - data.targets["level"][test]).square().mean()
        right = (predicted["kind"].argmax(1) == data.targets["kind"][test]).double().mean()
        assert fitted.score("level")[row] == pytest.approx(float(error))
        assert fitted.score("kind")[row] == pytest.approx(float(right))
        np.testing.assert_allclose(fitted.predictions["level"][row], predicted["level"], rtol=1e-12)


def test_keeps_the_weights_of_the_least_validation_loss():
    options = {"data": make_data(), "seeds": range(3), "learning_rate": 0.1, "steps": 300}
    joint = train(**options)
    each = train(**options, stopping="each")
    level = train(**options, stopping="level")
    validation = joint.history.query("part == 'validation'")
    for row, seed in enumerate(joint.seeds):
        of_seed = validation[validation.seed == seed].pivot_table("loss", "step", "task")
        kept = [joint.score(task.name, "loss", "validation")[row] for task in TASKS]
        assert sum(kept) == pytest.approx(of_seed.sum(axis=1).min())
        for name, fitted in (("level", each), ("kind", each), ("level", level)):
            best = fitted.score(name, "loss", "validation")[row]
            assert best == pytest.approx(of_seed[name].min())


def test_an_improvement_within_rounding_is_none():
    """Else the step at which a converged network stops depends on the machine."""
    options = {"data": make_data(), "seeds": range(3), "batch_size": None, "every": 10}
    tiny, all_steps = partial(torch.optim.SGD, lr=1e-13), {"steps": 100, "stopping": None}
    # Each evaluation is better than the last one, and by less than 1e-9 of it.
    falling = train(**options, **all_steps, optimiser=tiny).history.query("part == 'validation'")
    by_step = falling.pivot_table("loss", "step", "seed", aggfunc="sum")
    assert (by_step.diff().iloc[1:] < 0).any().all()
    assert (by_step.max() / by_step.min() - 1 < 1e-9).all()
    kept = train(**options, steps=100, optimiser=tiny)
    first = train(**options, steps=10, optimiser=tiny)
    for own, other in zip(
        network(kept, 1).parameters(), network(first, 1).parameters(), strict=True
    ):
        assert torch.equal(own, other)


def test_patience_stops_each_seed_and_changes_nothing_else():
    options = {"data": make_data(), "seeds": range(4), "learning_rate": 0.2, "steps": 400}
    patient, whole = train(**options, patience=3), train(**options)
    assert (patient.cost.steps < 400).any()
    assert (whole.cost.steps == 400).all()
    validation = whole.history.query("part == 'validation'")
    for row, seed in enumerate(patient.seeds):
        own = validation[validation.seed == seed].pivot_table("loss", "step", "task").sum(axis=1)
        best, waited, stop = math.inf, 0, 400
        for number, loss in enumerate(own):
            best, waited = (loss, 0) if loss < best else (best, waited + 1)
            if waited == 3:
                stop = (number + 1) * 5
                break
        assert patient.cost.steps[row] == stop
        kept = sum(patient.score(task.name, "loss", "validation")[row] for task in TASKS)
        assert kept == pytest.approx(best)


def test_a_regulariser_is_part_of_the_gradient():
    # For gradient descent a squared norm in the loss is weight decay.
    options: dict[str, Any] = {"data": make_data(), "seeds": range(2), "stopping": None}
    decayed = train(**options, optimiser=partial(torch.optim.SGD, lr=0.05, weight_decay=0.3))
    penalised = train(
        **options,
        optimiser=partial(torch.optim.SGD, lr=0.05),
        regulariser=lambda model: (
            0.15 * torch.stack([p.square().sum() for p in model.parameters()]).sum()
        ),
    )
    pd.testing.assert_series_equal(values(decayed.results), values(penalised.results), rtol=1e-9)


def test_a_balancer_weighs_the_shared_gradients_and_leaves_the_heads_their_own():
    options: dict[str, Any] = {"data": make_data(), "seeds": range(2), "stopping": None, "steps": 1}
    options["optimiser"] = partial(torch.optim.SGD, lr=0.1)
    summed = train(**options)
    uniform = train(**options, balancer=lambda gramian: torch.ones_like(gramian[0]))
    assert_same(summed, uniform)
    start = train(**options | {"optimiser": partial(torch.optim.SGD, lr=0.0)})
    only_level = torch.tensor([1.0, 0.0], dtype=torch.float64)
    first = train(**options, balancer=lambda gramian: only_level)
    alone = train(**options, tasks=["level"])
    for seed in range(2):
        balanced, one = first.model(seed).state_dict(), alone.model(seed).state_dict()
        begun, both = start.model(seed).state_dict(), summed.model(seed).state_dict()
        for name in balanced:
            expected = both if name.startswith("heads") else one
            torch.testing.assert_close(balanced[name], expected[name], rtol=1e-12, atol=1e-15)
        assert not torch.equal(begun["heads.kind.weight"], balanced["heads.kind.weight"])


def test_a_balancer_sees_the_gramian_and_spares_the_regulariser():
    seen = []

    def balancer(gramian: Tensor) -> Tensor:
        seen.append(gramian)
        return torch.ones_like(gramian[0])

    options: dict[str, Any] = {"data": make_data(), "seeds": [0], "stopping": None, "steps": 1}
    options["batch_size"] = None
    options["regulariser"] = lambda model: model.trunk[0].weight.square().sum()
    options["optimiser"] = partial(torch.optim.SGD, lr=0.1)
    assert_same(train(**options, balancer=balancer), train(**options))
    split, data = Holdout().draw(make_data(), 0), make_data()
    model = train(**options | {"optimiser": partial(torch.optim.SGD, lr=0.0)})
    model = network(model, 0)
    predicted = model(data.inputs[split.train])
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(
            task.loss(predicted[task.name], data.targets[task.name][split.train]).mean(),
            list(model.trunk.parameters()), retain_graph=True,
        )])
        for task in TASKS
    ]  # fmt: skip
    jacobian = torch.stack(rows)
    torch.testing.assert_close(seen[0], jacobian @ jacobian.T, rtol=1e-9, atol=1e-12)


def test_a_proximal_map_follows_each_step():
    fitted = train(data=make_data(), seeds=range(2), proximal=smaller_weights, stopping=None)
    for seed in range(2):
        weight = network(fitted, seed).state_dict()["trunk.0.weight"]
        assert (weight == 0).any()
        assert not (weight == 0).all()


def test_weights_that_learn_are_learnt_for_each_seed():
    plain = train(data=make_data(), seeds=range(2))
    learnt = train(data=make_data(), seeds=range(2), weighting=LearntWeights())
    assert learnt.cost.parameters == plain.cost.parameters + 2
    first, second = (learnt.weighting(seed) for seed in learnt.seeds)
    assert isinstance(first, LearntWeights)
    assert isinstance(second, LearntWeights)
    values = [next(own.parameters()).detach() for own in (LearntWeights(), first, second)]
    assert not any(torch.equal(values[a], values[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert plain.weighting(0) is None


@pytest.mark.parametrize("sampling", ["mixed", "alternating"])
def test_a_schedule_multiplies_the_learning_rate_of_each_step(sampling):
    options = {"data": make_data(), "seeds": [0], "sampling": sampling, "stopping": None}
    short, paused = (
        train(**options, steps=steps, schedule=schedule)
        for steps, schedule in ((12, None), (20, lambda step: float(step < 12)))
    )
    for name, own in network(short, 0).state_dict().items():
        assert torch.equal(own, network(paused, 0).state_dict()[name])
    halved = train(**options, learning_rate=2e-2, schedule=lambda step: 0.5)
    assert_same(halved, train(**options, learning_rate=1e-2))


def test_frozen_parameters_stay_and_initial_weights_are_used():
    source = train(data=make_data(), seeds=range(2))

    def start(model: nn.Module, seed: int) -> None:
        assert isinstance(model, HardSharing)
        model.trunk.load_state_dict(network(source, seed).trunk.state_dict())
        model.trunk.requires_grad_(False)

    fitted = train(data=make_data(), seeds=range(2), initialise=start)
    for seed in range(2):
        before = network(source, seed).trunk.state_dict()
        for name, after in network(fitted, seed).trunk.state_dict().items():
            assert torch.equal(after, before[name])
    assert fitted.cost.parameters == 9 + 27


class Interrupted(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sampling": "alternating"},
        {"stopping": "each", "patience": 4},
        {"vectorise": False},
        {"schedule": lambda step: 1 / (1 + step)},
    ],
    ids=["joint", "alternating", "early stopping", "one by one", "a schedule"],
)
def test_an_interrupted_training_goes_on_where_it_was(tmp_path, options):
    options = {"data": make_data(), "seeds": range(3), "steps": 80, "learning_rate": 0.1, **options}
    calls = 0

    def interrupt(model: nn.Module) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 45:
            raise Interrupted
        return torch.zeros((), dtype=torch.float64)

    def harmless(model: nn.Module) -> Tensor:
        return torch.zeros((), dtype=torch.float64)

    with pytest.raises(Interrupted):
        train(**options, regulariser=interrupt, checkpoint=tmp_path)
    assert list(tmp_path.glob("*.pt"))
    steps = []
    resumed = train(
        **options, checkpoint=tmp_path, regulariser=lambda model: steps.append(1) or harmless(model)
    )
    whole = train(**options)
    assert_same(resumed, whole)
    assert len(steps) < 80 * (1 if options.get("vectorise", True) else 3)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    calls = 0

    def interrupt(model: nn.Module) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise Interrupted
        return torch.zeros((), dtype=torch.float64)

    options = {"seeds": [0], "every": 1, "checkpoint": tmp_path}
    with pytest.raises(Interrupted):
        train(data=make_data(), regulariser=interrupt, **options)
    for other in ({"data": make_data(1)}, {"data": make_data(), "schedule": lambda step: 0.5}):
        with pytest.raises(UsageError, match=r"other settings.*remove it"):
            train(**other, **options)


def test_a_loss_that_is_not_finite_stops_with_task_seed_and_step():
    def data_of(seed: int) -> MultiTaskData:
        data = make_data(seed)
        if seed == 1:
            data.targets["level"][:] = 1e200
        return data

    with pytest.raises(TrainingDivergedError, match=r"'level' became inf for seed 1 at step 1:"):
        train(data=data_of, seeds=range(3))
    # With alternating tasks the steps at which a task waits are no errors.
    train(data=make_data(), seeds=range(3), sampling="alternating")


def test_diverging_names_the_first_step():
    calls = 0

    def explode(losses: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return losses.sum() * (torch.nan if calls == 7 else 1.0)

    with pytest.raises(TrainingDivergedError, match="at step 8:"):
        train(data=make_data(), seeds=range(2), weighting=explode, stopping="level")


def test_seeds_that_do_not_fit_together_train_in_smaller_groups(monkeypatch):
    whole = train(data=make_data(), seeds=range(5))
    groups = []
    create = replicas.Replicas.__init__

    def with_little_memory(self, build, seeds, **options):
        if len(seeds) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        groups.append(len(seeds))
        create(self, build, seeds, **options)

    monkeypatch.setattr(replicas.Replicas, "__init__", with_little_memory)
    assert_same(train(data=make_data(), seeds=range(5)), whole)
    assert groups == [2, 1, 2]


def test_not_even_one_seed_fits(monkeypatch):
    def full(*arguments, **options):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(replicas.Replicas, "__init__", full)
    with pytest.raises(UsageError, match="even for a single seed: use smaller batches"):
        train(data=make_data(), seeds=range(5))


def test_cost_counts_parameters_and_operations():
    shared = train(data=make_data(), seeds=[0])
    apart = fit(partial(build, 0), make_data(), seeds=[0], steps=20)
    trunk, heads = 5 * 8 + 8 + 8 * 8 + 8, (8 + 1) + (8 * 3 + 3)
    assert shared.cost.parameters == trunk + heads
    assert apart.cost.parameters == 2 * trunk + heads
    assert shared.cost.inference == 2 * (5 * 8 + 8 * 8 + 8 + 8 * 3)
    assert apart.cost.inference == 2 * (2 * (5 * 8 + 8 * 8) + 8 + 8 * 3)
    assert shared.cost.training[0] == 3 * shared.cost.inference * 32 * 20


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_is_a_choice(dtype):
    fitted = train(data=make_data(), seeds=range(2), dtype=dtype)
    assert next(fitted.model(0).parameters()).dtype == dtype
    exact = train(data=make_data(), seeds=range(2))
    np.testing.assert_allclose(fitted.score("level"), exact.score("level"), rtol=0.2)
    assert not np.array_equal(fitted.score("level"), exact.score("level"))


def test_two_threads_give_the_same_digits():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        two = train(data=make_data(), seeds=range(3))
    finally:
        torch.set_num_threads(before)
    assert_same(train(data=make_data(), seeds=range(3)), two)


def test_prints_nothing_where_nobody_watches(capfd, monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    train(data=make_data(), seeds=range(2))
    assert capfd.readouterr() == ("", "")


def test_shows_progress_in_jupyterlab_and_clears_it(capfd, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "a notebook")
    train(data=make_data(), seeds=range(2), label="sharing everything")
    out, err = capfd.readouterr()
    assert not out
    assert "sharing everything" in err
    assert not err.rsplit("\r", 1)[-1].strip()


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 1)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        level = self.layer(inputs)
        return {"level": level if level.sum() > 0 else -level}


BROKEN = {
    "no dictionary": (lambda: nn.Linear(5, 1), {}, "dictionary from task names"),
    "wrong width of input": (
        lambda: HardSharing([nn.Linear(9, 8)], TASKS, width=8), {}, r"inputs of the shape \(1, 5\)",
    ),
    "a head too few": (
        lambda: HardSharing([nn.Linear(5, 8)], TASKS[:1], width=8), {}, "not the task 'kind'",
    ),
    "a head too narrow": (
        lambda: HardSharing([nn.Linear(5, 8)], [LEVEL, Task.regression("kind")], width=8),
        {},
        r"must begin with \(1, 3\)",
    ),
    "control flow": (Branching, {"tasks": ["level"]}, "vectorise=False"),
    "dropout of PyTorch's": (
        lambda: HardSharing([nn.Linear(5, 8), nn.Dropout()], TASKS, width=8),
        {},
        "use mtlbook.layers.dropout.Dropout",
    ),
    "unknown task": (build, {"tasks": ["colour"]}, r"choose among \['level', 'kind'\]"),
    "unknown stopping": (build, {"stopping": "colour"}, "choose joint, each, None"),
    "unknown sampling": (build, {"sampling": "all"}, "mixed, balanced or alternating"),
    "no steps": (build, {"steps": 0}, "steps must be at least 1"),
    "no batch": (build, {"batch_size": 0}, "batch_size must be at least 1"),
    "no seeds": (build, {"seeds": []}, "at least one"),
    "a seed twice": (build, {"seeds": [1, 1]}, "distinct"),
    "unknown device": (build, {"device": "tpu"}, "auto, cpu, cuda or cuda:N"),
    "two ways to combine": (
        build, {"balancer": torch.diag, "weighting": torch.sum}, "no weighting",
    ),
    "data sets of several sizes": (
        build, {"data": lambda seed: make_data(seed, rows=100 + seed)}, "equally large",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("model", "options", "message"), BROKEN.values(), ids=BROKEN)
def test_says_what_is_wrong_and_what_to_do(model, options, message):
    options = {"data": make_data(), "seeds": range(2), "steps": 2, **options}
    with pytest.raises(UsageError, match=message):
        fit(model, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_no_gpu_is_a_clear_error():
    with pytest.raises(UsageError, match=r"needs a GPU.*use the device 'cpu'"):
        train(data=make_data(), seeds=[0], device="cuda")


def test_without_validation_rows_the_last_weights_are_kept():
    split = Holdout(train=60, validation=0, test=20)
    fitted = train(data=make_data(), seeds=range(2), split=split)
    last = train(data=make_data(), seeds=range(2), split=split, stopping=None)
    assert_same(fitted, last)
    assert set(fitted.results.part) == {"train", "test"}
    with pytest.raises(UsageError, match="on the part 'validation'"):
        fitted.score("level", part="validation")


def test_what_is_not_scored_changes_nothing_else():
    options = {"data": make_data(), "seeds": range(2)}
    whole, less = train(**options), train(**options, scored=["validation", "test"])
    assert sorted(less.results.part.unique()) == ["test", "validation"]
    pd.testing.assert_frame_equal(
        less.results, whole.results.query("part != 'train'").reset_index(drop=True)
    )
    pd.testing.assert_frame_equal(less.history, whole.history)
    with pytest.raises(UsageError, match=r"parts of the data among .*: \['tests'\]"):
        train(**options, scored=["tests"])


def test_asking_for_what_is_not_there():
    fitted = train(data=make_data(), seeds=range(2))
    with pytest.raises(UsageError, match="Seed 7 was not trained"):
        fitted.model(7)
    with pytest.raises(UsageError, match="no results for the metric 'recall'"):
        fitted.score("level", "recall")
    with pytest.raises(UsageError, match="no task 'colour'"):
        fitted.score("colour")
