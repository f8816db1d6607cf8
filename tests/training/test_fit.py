import math
import pickle
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from torch import Tensor, nn

from mtlbook.combiner import Combiner
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.sharing.hard import HardSharing
from mtlbook.tasks import Task
from mtlbook.training import replicas
from mtlbook.training.context import StepContext
from mtlbook.training.fit import TrainingDivergedError, fit, fit_trials
from mtlbook.training.loop import Training
from mtlbook.training.minibatches import Minibatches
from mtlbook.training.progress import show_with
from mtlbook.training.results import Evaluation, Fit
from mtlbook.training.sampling import Balanced, Mixed, Passes, Proportional, RandomTask, RoundRobin
from mtlbook.training.settings import Settings, Trial
from mtlbook.weighting.linear_scalarisation import LinearScalarisation

LEVEL, KIND = Task.regression("level"), Task.classification("kind", classes=3)
TASKS = (LEVEL, KIND)


def make_data(seed: int = 0, rows: int = 120) -> MultiTaskData:
    draws = generator(seed, "test data")
    inputs = torch.randn(rows, 5, generator=draws, dtype=torch.float64)
    scores = inputs @ torch.randn(5, 4, generator=draws, dtype=torch.float64)
    return MultiTaskData.multi_label(
        TASKS, inputs, {"level": scores[:, 0], "kind": scores[:, 1:].argmax(1)}
    )


def layers(inputs: int = 5) -> list[nn.Module]:
    return [nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh()]


def build(data: MultiTaskData, seed: int, branch_at: int | None = None) -> HardSharing:
    heads = {"level": nn.Linear(8, 1), "kind": nn.Linear(8, 3)}
    return HardSharing(layers, heads, branch_at=branch_at)


QUICK = Settings(steps=20, validate_every=5, device="cpu")


def train(*, data: Any, seeds: Any, **changes: Any) -> Fit:
    if "optimiser" not in changes:
        changes = {"learning_rate": 1e-2, **changes}
    return fit(build, data, seeds=seeds, settings=replace(QUICK, **changes))


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


class LearntWeights(Combiner):
    def __init__(self) -> None:
        super().__init__(["kind", "level"])
        self.log_variance = nn.Parameter(torch.tensor([0.0, 0.5], dtype=torch.float64))

    def transform(self, losses: Tensor) -> Tensor:
        return losses * torch.exp(-self.log_variance) + self.log_variance


def squares(model: nn.Module, context: StepContext) -> Tensor:
    return dict(model.named_parameters())["trunk.0.weight"].square().sum()


def smaller_weights(model: nn.Module, context: StepContext) -> dict[str, Tensor]:
    weight = dict(model.named_parameters())["trunk.0.weight"]
    size = (weight.abs() - 2 * context.learning_rate).clamp(min=0)
    return {"trunk.0.weight": torch.sign(weight) * size}


def worst(losses: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).amax(0)


OPTIONS: dict[str, dict[str, Any]] = {
    "mixed": {"sampler": Mixed(32)},
    "balanced": {"sampler": Balanced(16)},
    "round robin": {"sampler": RoundRobin(16)},
    "a random task": {"sampler": RandomTask(16)},
    "proportional": {"sampler": Proportional(16), "split": Holdout(labels={"level": 25})},
    "passes": {"sampler": Passes(16, order=("kind", "level"))},
    "whole batches": {"sampler": Mixed(None)},
    "each task stops alone": {"stopping": "each", "patience": 2},
    "the sum stops": {"stopping": "sum", "patience": 2},
    "a function stops": {"stopping": worst, "patience": 1},
    "last weights": {"stopping": None},
    "one task": {"tasks": ["kind"]},
    "tasks in another order": {"tasks": ["kind", "level"]},
    "few labels": {"split": Holdout(labels={"level": 15})},
    "a combiner that learns": {"combiner": LearntWeights()},
    "turns and a combiner": {"combiner": LearntWeights(), "sampler": RoundRobin(16)},
    "a regulariser": {"regulariser": squares},
    "a proximal map": {"after_step": smaller_weights},
    "short gradients": {"clip": 0.1},
    "another optimiser": {"optimiser": partial(torch.optim.SGD, lr=0.01, momentum=0.9)},
    "a schedule": {"schedule": lambda progress: 1 / (1 + 20 * progress)},
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
TRIALS = {name: Trial(optimiser=own) for name, own in OPTIMISERS.items()}
# A trial has its own optimiser, and a proximal map the step size of one.
OF_TRIALS = {
    name: options
    for name, options in OPTIONS.items()
    if not {"optimiser", "after_step"} & {*options}
}


@pytest.mark.parametrize("options", OF_TRIALS.values(), ids=OF_TRIALS)
def test_all_trials_at_once_equal_one_after_another(options):
    options = dict(options)
    data = options.pop("data", make_data())
    settings = replace(QUICK, **options)
    trials = fit_trials(build, data, seeds=[3, 0], trials=TRIALS, settings=settings)
    assert list(trials) == list(OPTIMISERS)
    for name, optimiser in OPTIMISERS.items():
        alone = fit(build, data, seeds=[3, 0], settings=replace(settings, optimiser=optimiser))
        assert_same(trials[name], alone)
        assert trials[name].seeds == alone.seeds
        assert (trials[name].cost.steps == alone.cost.steps).all()
        np.testing.assert_array_equal(trials[name].test, alone.test)
        for task in alone.tasks:
            own, other = (each.model(0, task.name) for each in (trials[name], alone))
            for one, another in zip(own.parameters(), other.parameters(), strict=True):
                torch.testing.assert_close(one, another, rtol=1e-9, atol=1e-12)


def test_trials_may_differ_in_their_combiner():
    trials = {"sum": Trial(), "learnt": Trial(combiner=LearntWeights())}
    settings = replace(QUICK, learning_rate=0.01)
    together = fit_trials(build, make_data(), seeds=range(2), trials=trials, settings=settings)
    for name, own in trials.items():
        assert_same(together[name], train(data=make_data(), seeds=range(2), combiner=own.combiner))
    learnt, plain = together["learnt"].combiner(1), together["sum"].combiner(1)
    assert isinstance(learnt, LearntWeights)
    assert plain is None


def test_trials_that_do_not_fit_into_memory_together_train_in_smaller_groups(monkeypatch):
    options = {"seeds": range(4), "trials": TRIALS, "settings": replace(QUICK, steps=10)}
    whole = fit_trials(build, make_data(), **options)
    original = Training.run

    def small_memory(self, advanced):
        if len(self.members) > 2 * len(OPTIMISERS):
            raise MemoryError
        return original(self, advanced)

    monkeypatch.setattr(Training, "run", small_memory)
    for name, trial in fit_trials(build, make_data(), **options).items():
        assert_same(trial, whole[name])
        for task in TASKS:
            own, other = (each.model(3, task.name).state_dict() for each in (trial, whole[name]))
            torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-12)


def test_trials_one_after_another_and_without_any():
    settings = replace(QUICK, vectorise=False)
    apart = fit_trials(build, make_data(), seeds=[0, 1], trials=TRIALS, settings=settings)
    whole = fit_trials(build, make_data(), seeds=[0, 1], trials=TRIALS, settings=QUICK)
    for name, own in apart.items():
        assert_same(own, whole[name])
    with pytest.raises(UsageError, match="no trial: name at least one"):
        fit_trials(build, make_data(), seeds=[0], trials={})


def test_what_follows_a_step_has_one_learning_rate():
    settings = replace(QUICK, after_step=smaller_weights)
    with pytest.raises(UsageError, match=r"one learning rate.*call fit for each trial"):
        fit_trials(build, make_data(), seeds=[0], trials=TRIALS, settings=settings)


def test_a_trial_that_diverges_is_named():
    wild = TRIALS | {"wild": Trial(optimiser=partial(torch.optim.SGD, lr=1e300))}
    with pytest.raises(TrainingDivergedError, match="for seed 7 in the trial 'wild' at step"):
        fit_trials(build, make_data(), seeds=[7], trials=wild)


def fresh(seed: int) -> HardSharing:
    """The network of a seed before training, as `fit` makes it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(seed, "initialisation").initial_seed())
        torch.set_default_dtype(torch.float64)
        model = build(make_data(), seed)
        torch.set_default_dtype(torch.float32)
    return model


@pytest.mark.parametrize("sampler", [Mixed(16), Balanced(16), RoundRobin(16), Passes(16)])
def test_equals_a_loop_written_by_hand(sampler):
    data, seed, steps, size = make_data(), 5, 30, 16
    split, model = Holdout().draw(data, seed), fresh(seed)
    turns = len(TASKS) if isinstance(sampler, RoundRobin) else 1
    optimisers = [torch.optim.Adam(model.parameters(), lr=1e-2) for _ in range(turns)]
    names = ["mixed"] if isinstance(sampler, Mixed) else [task.name for task in TASKS]
    batches = {name: Minibatches([split.train], size, [seed], name) for name in names}
    for step in range(steps):
        taught = TASKS
        if isinstance(sampler, RoundRobin):
            taught = TASKS[step % 2 : step % 2 + 1]
        elif isinstance(sampler, Passes):  # 72 rows are 4 full batches
            taught = TASKS[step // 4 % 2 : step // 4 % 2 + 1]
        rows = {name: batches[name].take(1)[0, 0] for name in names
                if name == "mixed" or name in [task.name for task in taught]}  # fmt: skip
        loss = torch.zeros((), dtype=torch.float64)
        for task in taught:
            own = rows.get(task.name, rows.get("mixed"))
            predicted, target = model(data.inputs[own])[task.name], data.targets[task.name][own]
            loss = loss + task.loss(predicted, target).mean()
        optimiser = optimisers[step % turns]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    fitted = train(data=data, seeds=[seed], steps=steps, sampler=sampler, stopping=None)
    for name, own in fitted.model(seed).state_dict().items():
        torch.testing.assert_close(own, model.state_dict()[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("proportional", [True, False])
def test_random_tasks_are_drawn_as_often_as_they_should(proportional):
    split = Holdout(train=80, validation=20, test=20, labels={"level": 20})
    counts = {"level": 0, "kind": 0}

    def count(model: nn.Module, context: StepContext) -> Tensor:
        return torch.zeros((), dtype=torch.float64)

    sampler = Proportional(10) if proportional else RandomTask(10)
    fitted = train(
        data=make_data(), seeds=range(8), steps=200, validate_every=1, sampler=sampler,
        split=split, regulariser=count,
    )  # fmt: skip
    taught = fitted.history.query("part == 'train'").dropna()
    counts = taught["task"].value_counts()
    assert counts.sum() == 8 * 200
    expected = 0.2 if proportional else 0.5
    assert counts["level"] / counts.sum() == pytest.approx(expected, abs=0.04)
    orders = [own["task"].tolist() for _, own in taught.sort_values("step").groupby("seed")]
    assert orders[0] != orders[1]


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


def test_tasks_come_back_in_the_order_that_was_asked_for():
    fitted = train(data=make_data(), seeds=range(2), tasks=["kind", "level"])
    assert [task.name for task in fitted.tasks] == ["kind", "level"]
    with pytest.raises(UsageError, match="each once"):
        train(data=make_data(), seeds=range(2), tasks=["kind", "kind"])


def test_a_fit_can_be_pickled():
    fitted = train(data=make_data(), seeds=range(2), combiner=LearntWeights())
    again = pickle.loads(pickle.dumps(fitted))
    assert_same(again, fitted)
    inputs = make_data().inputs
    expected = fitted.model(1)(inputs)["level"]
    torch.testing.assert_close(again.model(1)(inputs)["level"], expected, rtol=0, atol=0)


def test_keeps_the_weights_of_the_least_validation_loss():
    options = {"data": make_data(), "seeds": range(3), "learning_rate": 0.1, "steps": 300}
    total, each, level, worse = (
        train(**options, stopping=rule) for rule in ("sum", "each", "level", worst)
    )
    validation = total.history.query("part == 'validation'")
    for row, seed in enumerate(total.seeds):
        of_seed = validation[validation.seed == seed].pivot_table("loss", "step", "task")
        kept = [total.score(task.name, "loss", "validation")[row] for task in TASKS]
        assert sum(kept) == pytest.approx(of_seed.sum(axis=1).min())
        kept = [worse.score(task.name, "loss", "validation")[row] for task in TASKS]
        assert max(kept) == pytest.approx(of_seed.max(axis=1).min())
        for name, fitted in (("level", each), ("kind", each), ("level", level)):
            best = fitted.score(name, "loss", "validation")[row]
            assert best == pytest.approx(of_seed[name].min())


def test_the_default_stopping_is_relative_to_the_untrained_network():
    options = {"data": make_data(), "seeds": range(3), "steps": 200, "learning_rate": 0.1}
    fitted, untrained = train(**options), train(**options | {"steps": 1, "learning_rate": 1e-300})
    validation = fitted.history.query("part == 'validation'")
    for row, seed in enumerate(fitted.seeds):
        of_seed = validation[validation.seed == seed].pivot_table("loss", "step", "task")
        first = {t.name: untrained.score(t.name, "loss", "validation")[row] for t in TASKS}
        relative = (of_seed / pd.Series(first)).mean(axis=1)
        kept = np.mean(
            [fitted.score(t.name, "loss", "validation")[row] / first[t.name] for t in TASKS]
        )
        assert kept == pytest.approx(relative.min())


def test_stopping_does_not_hang_on_weights_that_move():
    """With learnt weights the combined validation loss would compare different things."""
    options = {"data": make_data(), "seeds": range(2), "learning_rate": 0.1, "steps": 200}
    fitted = train(**options, combiner=LearntWeights(), stopping="sum")
    validation = fitted.history.query("part == 'validation'")
    by_step = validation.pivot_table("loss", "step", "seed", aggfunc="sum")
    for row, seed in enumerate(fitted.seeds):
        kept = sum(fitted.score(task.name, "loss", "validation")[row] for task in TASKS)
        assert kept == pytest.approx(by_step[seed].min())


def test_an_improvement_within_rounding_is_none():
    """Else the step at which a converged network stops depends on the machine."""
    options = {"data": make_data(), "seeds": range(3), "sampler": Mixed(None), "stopping": "sum"}
    options["validate_every"] = 10
    tiny = partial(torch.optim.SGD, lr=1e-13)
    last = train(**options | {"stopping": None}, steps=100, optimiser=tiny)
    # Each evaluation is better than the last one, and by less than 1e-9 of it.
    falling = last.history.query("part == 'validation'")
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
    options["stopping"] = "sum"
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
        regulariser=lambda model, context: (
            0.15 * torch.stack([p.square().sum() for p in model.parameters()]).sum()
        ),
    )
    pd.testing.assert_series_equal(values(decayed.results), values(penalised.results), rtol=1e-9)


def test_a_proximal_map_follows_each_step():
    fitted = train(data=make_data(), seeds=range(2), after_step=smaller_weights, stopping=None)
    for seed in range(2):
        weight = network(fitted, seed).state_dict()["trunk.0.weight"]
        assert (weight == 0).any()
        assert not (weight == 0).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"trunk.9.weight": torch.zeros(2)}, "which the model does not have"),
        ({"trunk.0.bias": torch.zeros(2)}, r"the shape \(2,\) in the place of \(8,\)"),
    ],
)
def test_what_follows_a_step_must_fit_the_model(changed, message):
    with pytest.raises(UsageError, match=message):
        train(data=make_data(), seeds=range(2), after_step=lambda model, context: changed)


def test_weights_that_learn_are_learnt_for_each_seed():
    plain = train(data=make_data(), seeds=range(2))
    learnt = train(data=make_data(), seeds=range(2), combiner=LearntWeights())
    assert learnt.cost.parameters == plain.cost.parameters + 2
    first, second = (learnt.combiner(seed) for seed in learnt.seeds)
    assert isinstance(first, LearntWeights)
    assert isinstance(second, LearntWeights)
    values = [next(own.parameters()).detach() for own in (LearntWeights(), first, second)]
    assert not any(torch.equal(values[a], values[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert plain.combiner(0) is None


def test_tasks_that_take_turns_are_weighted_too():
    options: dict[str, Any] = {"data": make_data(), "seeds": [0], "stopping": None, "steps": 4}
    options |= {"sampler": RoundRobin(16), "optimiser": partial(torch.optim.SGD, lr=0.1)}
    half = LinearScalarisation({"level": 0.5, "kind": 0.0})
    weighted = network(train(**options, combiner=half), 0).state_dict()
    model: Any = fresh(0)
    data, split = make_data(), Holdout().draw(make_data(), 0)
    batches = Minibatches([split.train], 16, [0], "level")
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):  # of the four steps, the others are the other task's
        rows = batches.take(1)[0, 0]
        optimiser.zero_grad()
        predicted = model(data.inputs[rows])["level"]
        (0.5 * LEVEL.loss(predicted, data.targets["level"][rows]).mean()).backward()
        optimiser.step()
    for name, own in model.state_dict().items():
        torch.testing.assert_close(weighted[name], own, rtol=1e-9, atol=1e-12)
    assert not torch.equal(
        model.state_dict()["trunk.0.weight"], fresh(0).state_dict()["trunk.0.weight"]
    )


def test_one_step_is_one_forward_pass():
    """What follows the training must not count calls; batch statistics see all tasks' rows."""

    class Counted(HardSharing):
        calls = 0

        def forward(self, inputs: Tensor) -> Mapping[str, Tensor]:
            Counted.calls += self.training
            return super().forward(inputs)

    def build(data: MultiTaskData, seed: int) -> HardSharing:
        return Counted(layers, {"level": nn.Linear(8, 1), "kind": nn.Linear(8, 3)})

    settings = replace(QUICK, sampler=Balanced(8), steps=7)
    fit(build, make_data(), seeds=range(3), settings=settings)
    assert Counted.calls == 7


def test_a_combiner_of_other_tasks_is_refused():
    with pytest.raises(UsageError, match=r"combines the losses of \['kind', 'level'\]"):
        train(data=make_data(), seeds=[0], tasks=["kind"], combiner=LearntWeights())


@pytest.mark.parametrize("sampler", [Mixed(32), RoundRobin(32)])
def test_a_schedule_multiplies_the_learning_rate_of_each_step(sampler):
    options = {"data": make_data(), "seeds": [0], "sampler": sampler, "stopping": None}
    short, paused = (
        train(**options, steps=steps, schedule=schedule)
        for steps, schedule in ((12, None), (20, lambda progress: float(progress < 0.59)))
    )
    for name, own in network(short, 0).state_dict().items():
        assert torch.equal(own, network(paused, 0).state_dict()[name])
    halved = train(**options, learning_rate=2e-2, schedule=lambda progress: 0.5)
    assert_same(halved, train(**options, learning_rate=1e-2))


def test_long_gradients_are_shortened_replica_by_replica():
    options: dict[str, Any] = {"data": make_data(), "seeds": range(3), "stopping": None, "steps": 1}
    options["optimiser"] = partial(torch.optim.SGD, lr=1.0)
    start = train(**options | {"optimiser": partial(torch.optim.SGD, lr=0.0)})
    whole, clipped, loose = (train(**options, clip=largest) for largest in (None, 0.1, 1e6))
    assert_same(whole, loose)
    for seed in range(3):
        moved = [
            torch.cat([(a - b).detach().flatten() for a, b in zip(
                network(fitted, seed).parameters(), network(start, seed).parameters(), strict=True
            )]) for fitted in (whole, clipped)
        ]  # fmt: skip
        assert float(moved[1].detach().norm()) == pytest.approx(0.1)
        torch.testing.assert_close(moved[1] / 0.1, moved[0] / moved[0].norm())


def test_callbacks_see_each_evaluation_and_the_models():
    seen: list[Evaluation] = []
    fitted = train(data=make_data(), seeds=range(2), callbacks=[seen.append], stopping=None)
    assert [evaluation.step for evaluation in seen] == [5, 10, 15, 20]
    last = fitted.history.query("part == 'validation' and step == 20 and task == 'kind'")
    np.testing.assert_allclose(seen[-1].losses["kind"][0], last["loss"])
    now = seen[-1].model("", 1).state_dict()
    torch.testing.assert_close(now, fitted.model(1).state_dict(), rtol=0, atol=0)


def test_frozen_parameters_stay_and_initial_weights_are_used():
    source = train(data=make_data(), seeds=range(2))

    def start(model: nn.Module, seed: int) -> None:
        assert isinstance(model, HardSharing)
        model.trunk.load_state_dict(network(source, seed).trunk.state_dict())
        model.trunk.requires_grad_(False)

    fitted = train(data=make_data(), seeds=range(2), start=start)
    for seed in range(2):
        before = network(source, seed).trunk.state_dict()
        for name, after in network(fitted, seed).trunk.state_dict().items():
            assert torch.equal(after, before[name])
    assert fitted.cost.parameters == 9 + 27


def test_a_training_goes_on_from_another():
    gradient_descent = partial(torch.optim.SGD, lr=0.05)
    options = {"data": make_data(), "seeds": range(2), "sampler": Mixed(None), "stopping": None}
    whole = train(**options, steps=20, optimiser=gradient_descent)
    half = train(**options, steps=10, optimiser=gradient_descent)
    rest = train(**options, steps=10, optimiser=gradient_descent, start=half)
    pd.testing.assert_series_equal(values(rest.results), values(whole.results), rtol=1e-9)

    def other(data: MultiTaskData, seed: int) -> HardSharing:
        return HardSharing(lambda: [nn.Linear(5, 4)], {"level": nn.Linear(4, 1)})

    with pytest.raises(UsageError, match="does not start from the earlier training's weights"):
        fit(
            other, make_data(), seeds=range(2), settings=replace(QUICK, tasks=["level"], start=half)
        )


def test_a_network_is_built_from_its_seeds_training_data():
    data, seen = make_data(), {}

    def widest(own: MultiTaskData, seed: int) -> HardSharing:
        seen[seed] = own
        return build(own, seed)

    split = Holdout(labels={"level": 15})
    settings = replace(QUICK, split=split)
    fit(widest, data, seeds=[3, 1], settings=settings)
    for seed, own in seen.items():
        drawn = split.draw(data, seed)
        assert torch.equal(own.inputs, data.inputs[drawn.train])
        assert int(own.labelled["level"].sum()) == 15
        assert torch.equal(own.labelled["level"], drawn.labelled["level"][drawn.train])


def test_a_loss_that_is_not_finite_stops_with_task_seed_and_step():
    def data_of(seed: int) -> MultiTaskData:
        data = make_data(seed)
        if seed == 1:
            data.targets["level"][:] = 1e200
        return data

    with pytest.raises(TrainingDivergedError, match=r"'level' became inf for seed 1 at step 1:"):
        train(data=data_of, seeds=range(3), stopping="sum")
    # With alternating tasks the steps at which a task waits are no errors.
    train(data=make_data(), seeds=range(3), sampler=RoundRobin(16))


def test_a_validation_loss_that_is_not_finite_is_an_error():
    """Nothing is better than NaN, so that the initial weights would be returned."""

    def data_of(seed: int) -> MultiTaskData:
        data = make_data(seed)
        if seed == 1:
            data.targets["level"][Holdout().draw(data, seed).validation] = 1e200
        return data

    with pytest.raises(TrainingDivergedError, match=r"validation loss .* for seed 1 at step 5"):
        train(data=data_of, seeds=range(3), stopping="sum")


class Exploding(Combiner):
    """Infinite weights from the seventh step on."""

    def weigh(self, evidence: Any) -> Tensor:
        size = torch.inf if evidence.progress >= 6 / 20 else 1.0
        return torch.full_like(evidence.losses, size)


def test_diverging_names_the_first_step():
    with pytest.raises(TrainingDivergedError, match="at step 8:"):
        train(data=make_data(), seeds=range(2), combiner=Exploding(TASKS), stopping="level")


def test_seeds_that_do_not_fit_together_train_in_smaller_groups(monkeypatch):
    whole = train(data=make_data(), seeds=range(5))
    groups = []
    create = replicas.Replicas.__init__

    def with_little_memory(self, build, data, seeds, **options):
        if len(seeds) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        groups.append(len(seeds))
        create(self, build, data, seeds, **options)

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
    apart = fit(partial(build, branch_at=0), make_data(), seeds=[0], settings=QUICK)
    trunk, heads = 5 * 8 + 8 + 8 * 8 + 8, (8 + 1) + (8 * 3 + 3)
    assert shared.cost.parameters == trunk + heads
    assert apart.cost.parameters == 2 * trunk + heads
    assert shared.cost.inference == 2 * (5 * 8 + 8 * 8 + 8 + 8 * 3)
    assert apart.cost.inference == 2 * (2 * (5 * 8 + 8 * 8) + 8 + 8 * 3)
    assert shared.cost.training[0] == 3 * shared.cost.inference * 32 * 20


@pytest.mark.parametrize(("dtype", "step"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_lower_precision_is_a_choice(dtype, step):
    """One step from the same weights agrees to the precision, and not beyond."""
    options = {"data": make_data(), "seeds": range(2), "steps": 1, "stopping": None}
    fitted, exact = train(**options, dtype=dtype), train(**options)
    own, other = fitted.model(0).state_dict(), exact.model(0).state_dict()
    for name, values in own.items():
        assert values.dtype == dtype
        torch.testing.assert_close(values.double(), other[name], rtol=step, atol=step)
    assert any(not torch.equal(own[name].double(), other[name]) for name in own)


def busy_threads(before: Mapping[int, float]) -> int:
    """How many threads of this process have worked since."""
    now = {own.id: own.user_time for own in psutil.Process().threads()}
    return sum(used > before.get(number, 0.0) for number, used in now.items())


def test_two_threads_give_the_same_digits():
    """On layers so wide that PyTorch's matrix products do use both threads."""

    def wide(data: MultiTaskData, seed: int) -> HardSharing:
        heads = {"level": nn.Linear(512, 1), "kind": nn.Linear(512, 3)}
        return HardSharing(lambda: [nn.Linear(5, 512), nn.Tanh(), nn.Linear(512, 512)], heads)

    settings = replace(QUICK, steps=8, sampler=Mixed(64), stopping=None)
    before, fits = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            work = {own.id: own.user_time for own in psutil.Process().threads()}
            fits.append(fit(wide, make_data(), seeds=range(4), settings=settings))
        assert busy_threads(work) > 1
    finally:
        torch.set_num_threads(before)
    assert_same(*fits)


def test_prints_nothing_where_nobody_watches(capfd):
    train(data=make_data(), seeds=range(2))
    assert capfd.readouterr() == ("", "")


def test_shows_progress_with_what_the_caller_wants():
    made = []

    class Counter:
        def __init__(self, total: int, label: str) -> None:
            self.total, self.label, self.done, self.closed = total, label, 0, False
            made.append(self)

        def update(self, n: int = 1, /) -> None:
            self.done += n

        def close(self) -> None:
            self.closed = True

    from mtlbook.training import progress

    before = progress._make
    try:
        show_with(Counter)
        train(data=make_data(), seeds=range(2), progress_label="sharing", patience=1)
    finally:
        show_with(before)
    (counter,) = made
    assert (counter.label, counter.total, counter.done, counter.closed) == ("sharing", 40, 40, True)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 1)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        level = self.layer(inputs)
        return {"level": level if level.sum() > 0 else -level}


class Recurrent(nn.Module):
    def __init__(self, layer: type[nn.Module]) -> None:
        super().__init__()
        self.layer = layer(1, 4)
        self.head = nn.Linear(4, 1)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        steps = inputs.T.unsqueeze(-1)  # (length, examples, 1)
        states = (
            self.layer(steps)[0] if isinstance(self.layer, nn.RNNBase) else self.layer(steps[0])
        )
        states = states[0] if isinstance(states, tuple) else states
        return {"level": self.head(states[-1] if states.ndim == 3 else states)}


class Noisy(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + torch.randn_like(inputs)


def shared(*stages: nn.Module, **heads: nn.Module) -> Any:
    return lambda data, seed: HardSharing(lambda: list(stages), heads)


TWO = {"level": nn.Linear(8, 1), "kind": nn.Linear(8, 3)}
BROKEN = {
    "no dictionary": (lambda data, seed: nn.Linear(5, 1), {}, "dictionary from task names"),
    "wrong width of input": (shared(nn.Linear(9, 8), **TWO), {}, r"inputs of the shape \(1, 5\)"),
    "a head too few": (shared(nn.Linear(5, 8), level=nn.Linear(8, 1)), {}, "not the task 'kind'"),
    "a head too narrow": (
        shared(nn.Linear(5, 8), level=nn.Linear(8, 1), kind=nn.Linear(8, 1)),
        {},
        r"must begin with \(1, 3\)",
    ),
    "control flow": (lambda data, seed: Branching(), {"tasks": ["level"]}, "vectorise=False"),
    "noise": (shared(nn.Linear(5, 8), Noisy(), **TWO), {}, "write dropout as nn.Dropout"),
    "LSTM": (lambda d, s: Recurrent(nn.LSTM), {"tasks": ["level"]}, "LSTM.*layers.recurrent"),
    "GRU": (lambda d, s: Recurrent(nn.GRU), {"tasks": ["level"]}, "GRU.*layers.recurrent"),
    "a cell": (lambda d, s: Recurrent(nn.LSTMCell), {"tasks": ["level"]}, "LSTMCell.*recurrent"),
    "unknown task": (build, {"tasks": ["colour"]}, r"choose among \['level', 'kind'\]"),
    "unknown stopping": (build, {"stopping": "colour"}, "choose relative, sum, each, None"),
    "no seeds": (build, {"seeds": []}, "at least one"),
    "a seed twice": (build, {"seeds": [1, 1]}, "distinct"),
    "unknown device": (build, {"device": "tpu"}, "auto, cpu, cuda or cuda:N"),
    "data sets of several sizes": (
        build, {"data": lambda seed: make_data(seed, rows=100 + seed)}, "equally large",
    ),
    "a task left out of the order": (build, {"sampler": Passes(8, order=("kind",))}, "each of the"),
}  # fmt: skip


@pytest.mark.parametrize(("model", "options", "message"), BROKEN.values(), ids=BROKEN)
def test_says_what_is_wrong_and_what_to_do(model, options, message):
    options = dict(options)
    data, seeds = options.pop("data", make_data()), options.pop("seeds", range(2))
    with pytest.raises(UsageError, match=message):
        fit(model, data, seeds=seeds, settings=replace(QUICK, steps=2, **options))


IMPOSSIBLE = {
    "no steps": ({"steps": 0}, "steps must be at least 1"),
    "no batch": ({"sampler": partial(Mixed, 0)}, "batch_size must be at least 1"),
    "two learning rates": (
        {"learning_rate": 0.1, "optimiser": torch.optim.SGD}, "is that of the default optimiser",
    ),
    "patience without stopping": ({"stopping": None, "patience": 3}, "leave patience out"),
    "no length": ({"clip": 0.0}, "a norm above 0"),
    "an unknown part": ({"evaluate_on": ["tests"]}, r"parts of the data among .*: \['tests'\]"),
}  # fmt: skip


@pytest.mark.parametrize(("options", "message"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_settings_that_are_impossible_or_silenced_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Settings(**{k: v() if k == "sampler" else v for k, v in options.items()})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
def test_what_was_trained_on_a_gpu_is_kept_on_the_cpu():
    """A pickle of it must open on a machine without one."""
    seen: list[Evaluation] = []
    options = {"combiner": LearntWeights(), "callbacks": [seen.append], "stopping": "each"}
    fitted = train(data=make_data(), seeds=range(2), device="cuda", **options)
    for kept in (own for groups in fitted.kept.values() for own in groups):
        assert kept.combiner is not None
        of_modules = [values for own in kept.modules for values in own.state_dict().values()]
        held = [*of_modules, *kept.state.values(), *kept.combiner.parameters()]
        assert {values.device.type for values in held} == {"cpu"}
    assert {own.device.type for own in seen[-1].model("", 1).parameters()} == {"cpu"}


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


def test_what_is_not_evaluated_changes_nothing_else():
    options = {"data": make_data(), "seeds": range(2)}
    whole, less = train(**options), train(**options, evaluate_on=["validation", "test"])
    assert sorted(less.results.part.unique()) == ["test", "validation"]
    pd.testing.assert_frame_equal(
        less.results, whole.results.query("part != 'train'").reset_index(drop=True)
    )
    pd.testing.assert_frame_equal(less.history, whole.history)


def test_asking_for_what_is_not_there():
    fitted = train(data=make_data(), seeds=range(2))
    with pytest.raises(UsageError, match="Seed 7 was not trained"):
        fitted.model(7)
    with pytest.raises(UsageError, match="no results for the metric 'recall'"):
        fitted.score("level", "recall")
    with pytest.raises(UsageError, match="no task 'colour'"):
        fitted.score("colour")
