"""The study of overlaid MNIST: its networks and all of it on made-up images."""

from functools import cache, partial

import numpy as np
import pytest
import torch

from mtlbook.book.data import overlaid_digits
from mtlbook.book.studies import overlaid_mnist as study
from mtlbook.data import MultiTaskData
from mtlbook.data.multi_task_data import Consecutive
from mtlbook.training.fit import fit
from mtlbook.training.selection import Selected, select
from mtlbook.training.settings import Settings
from tests.book.studies.stand_ins import digits

SMALL = Consecutive(train=60, validation=20, test=30, labels={"left": 20})
SEEDS = [0, 1]
SPLITS = ["split after 1", "split after 2", "hard sharing"]


@cache
def noise(seed: int) -> MultiTaskData:
    """Images of noise with labels at random."""
    random = torch.Generator().manual_seed(seed)
    images = torch.rand(110, 1, 28, 28, generator=random)
    labels = {task.name: torch.randint(10, (110,), generator=random) for task in study.TASKS}
    return MultiTaskData.multi_label(study.TASKS, images, labels)


@pytest.fixture(scope="module")
def separate() -> Selected:
    """Single-task networks after a few steps, each task's stopped at its own best point."""
    settings = Settings(
        split=SMALL,
        steps=6,
        validate_every=1,
        optimiser=partial(study.momentum_descent, rate=0.3),
        stopping="each",
        device="cpu",
        dtype=torch.float32,
    )
    trained = fit(partial(study.split_network, shared=0), noise, seeds=SEEDS, settings=settings)
    return select({"": trained}, each_task=True)


def test_the_networks_have_the_size_that_the_protocol_tells():
    first, second, dense, head = 10 * 26, 20 * 251, 50 * 321, 10 * 51
    whole = first + second + dense + head
    expected = {
        0: 2 * whole,
        1: 2 * whole - first,
        2: 2 * whole - first - second,
        3: whole + head,
    }
    found = {k: size(study.split_network(noise(0), 0, shared=k)) for k in expected}
    assert found == expected
    assert size(study.stitched_network(noise(0), 0, same=0.9)) == 2 * whole + 4 * (10 + 20 + 50)


def size(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("seed", SEEDS)
def test_units_at_the_identity_start_with_the_predictions_of_single_task_networks(separate, seed):
    fit = separate.fits[""]
    images = noise(seed).inputs[fit.test[SEEDS.index(seed)]]
    for same, alike in ((1.0, True), (0.9, False)):
        model = study.stitched_network(noise(seed), seed, same=same)
        study.take(separate, "columns", model, seed)
        with torch.no_grad():
            predicted = model(images)
        for task in study.TASKS:
            own = fit.predictions[task.name][SEEDS.index(seed)]
            assert np.allclose(predicted[task.name].numpy(), own, atol=1e-5) == alike


@pytest.mark.parametrize("seed", SEEDS)
def test_single_task_networks_go_on_where_they_stopped(separate, seed):
    model = study.split_network(noise(seed), seed, shared=0)
    study.take(separate, "branches", model, seed)
    fit = separate.fits[""]
    with torch.no_grad():
        predicted = model(noise(seed).inputs[fit.test[SEEDS.index(seed)]])
    for task in study.TASKS:
        own = fit.predictions[task.name][SEEDS.index(seed)]
        np.testing.assert_allclose(predicted[task.name].numpy(), own, atol=1e-5)


def test_errors_are_those_of_the_chosen_predictions_and_steps_are_equal():
    chosen = study.contestants(noise, SMALL, SEEDS, "cpu", steps=3, more_steps=2)
    results = study.measured(chosen, SEEDS).set_index(["method", "task", "metric", "seed"]).value
    for method, own in chosen.items():
        for place, seed in enumerate(SEEDS):
            for task in ("left", "right"):
                trial = own.fits[str(own.choices.loc[seed, task])]
                guessed = trial.predictions[task][place].argmax(1)
                labels = noise(seed).targets[task][80:].flatten().numpy()
                wrong = np.mean(guessed != labels)
                assert results[method, task, "error", seed] == pytest.approx(wrong)
        steps = {int(count) for trial in own.fits.values() for count in trial.cost.steps}
        assert steps == ({2} if method in ("single-task", "cross-stitch") else {5})
    own_trials = [trial for name in SPLITS for trial in chosen[name].fits.values()]
    assert len(own_trials) == 6
    first = len(study.LEARNING_RATES)
    for method in ("single-task", "cross-stitch"):
        assert first + len(chosen[method].fits) == 6
    assert list(chosen["best split"].fits.values()) == own_trials


def test_the_whole_study_at_a_tiny_size(monkeypatch):
    # In place of MNIST; the images are overlaid as its are.
    monkeypatch.setattr(overlaid_digits.mnist, "load", lambda: digits(train=100, test=40, side=28))
    monkeypatch.setattr(study, "SPLIT", SMALL)
    results = study.run(SEEDS, "cpu", steps=2, more_steps=2)
    assert results.columns.tolist() == ["seed", "method", "task", "metric", "value"]
    names = {"single-task", "cross-stitch", *SPLITS, "best split"}
    assert set(results.method) == names
    assert len(results) == len(SEEDS) * len(names) * 2 * 2
    errors = results.value[results.metric == "error"]
    # Shares of the 30 test images.
    np.testing.assert_allclose(30 * errors, (30 * errors).round(), atol=1e-9)
    assert errors.between(0, 1).all()
