"""The contestants of section 7.7: equal trials, no leak, the linear identity and its exception."""

import numpy as np
import pytest
import torch

from mtlbook.auxiliary.auxiliary_task import check_auxiliaries
from mtlbook.auxiliary.future_to_present import LuPTS
from mtlbook.auxiliary.linear_trunk import identity_gap
from mtlbook.book.data.worlds.severity import course
from mtlbook.book.experiments import future_linear as linear
from mtlbook.book.experiments import future_to_present as experiments
from mtlbook.book.experiments.auxiliary_tasks import equal_trials, zero_weight_gap
from mtlbook.book.experiments.networks import mlp
from mtlbook.book.page import Page
from mtlbook.data.multi_task_data import Holdout


@pytest.fixture
def page(monkeypatch, tmp_path):
    monkeypatch.setenv("MTLBOOK_OUTPUT", str(tmp_path))
    monkeypatch.setattr(experiments, "VALIDATION", 30)
    monkeypatch.setattr(experiments, "TEST", 40)
    monkeypatch.setattr(experiments, "STEPS", 4)
    return Page("7.7", {"seeds": 2, "first_seed": 0, "device": "cpu"})


def test_everyone_has_twelve_trials_and_as_many_steps(page):
    setting = experiments.from_severity(page, rows=20)
    first, second = setting.fed()
    assert equal_trials(setting.alone(), setting.beside(), setting.oracle()) == 12
    assert len(first.fits) + len(second.fits) == 12
    steps = [next(iter(own.fits.values())).cost.steps[0] for own in (first, second)]
    assert steps == [2, 2]


def test_the_contest_of_the_page(page):
    losses, costs = experiments.compared(experiments.from_severity(page, rows=20))
    assert all(own.shape == (2,) for own in losses.values())
    assert {"single-task", "later as outputs", "LuPTS, ridge"} <= set(losses)
    width, inputs, labs = experiments.WIDTH, 20, 6
    single = width * (inputs + 1) + width + 1
    assert costs["single-task"]["parameters"] == single
    assert costs["later as outputs"]["parameters"] == single + labs * (width + 1)
    assert costs["oracle"]["parameters"] == single + width * labs
    first = single - (width + 1) + labs * (width + 1)
    assert costs["predict, then feed"]["parameters"] == first + single + width * labs


def test_the_predictions_that_are_fed_are_those_of_the_first_network(page):
    setting = experiments.from_severity(page, rows=20)
    first, second = setting.fed()
    chosen = first.fits[first.choices["labs"].tolist()[0]]
    fit = next(iter(second.fits.values()))
    assert next(fit.model(0).parameters()).shape == (experiments.WIDTH, 20 + 6)
    rows = chosen.test[0]
    np.testing.assert_array_equal(rows, fit.test[0])
    made = setting.data(0)
    expected = torch.cat([made.inputs[rows], torch.tensor(chosen.predictions["labs"][0])], dim=1)
    told = fit.model(0)(expected)["outcome"].detach().numpy()
    np.testing.assert_allclose(told, fit.predictions["outcome"][0], atol=1e-12)


def test_no_later_measurement_is_an_input(page):
    for setting in (
        experiments.from_severity(page),
        experiments.from_horizons(page, "in_1"),
        experiments.from_diabetes(page),
    ):
        check_auxiliaries(setting.data(0), setting.main)


def test_shuffled_measurements_stay_within_their_class(page):
    setting = experiments.from_severity(page, rows=60)
    before, after = setting.data(0), setting.of_others(0)
    for label in (0, 1):
        rows = before.targets["outcome"][:, 0] == label
        was, now = before.targets["labs"][rows], after.targets["labs"][rows]
        assert torch.equal(was.sort(0).values, now.sort(0).values)
        assert not torch.equal(was, now)


def test_without_classes_measurements_are_shuffled_among_all(page):
    setting = experiments.from_diabetes(page)
    before, after = (own.targets["serum"] for own in (setting.data(0), setting.of_others(0)))
    assert torch.equal(before.sort(0).values, after.sort(0).values)
    assert (before == after).all(1).double().mean() < 0.05


def test_a_weight_of_zero_is_single_task_training(page):
    setting = experiments.from_severity(page, rows=20)
    gap = zero_weight_gap(page, mlp, setting.data, "outcome", ["labs"], **setting.settings)
    assert gap == 0.0


def test_a_full_width_linear_trunk_gains_nothing_where_the_product_does():
    data = course(0, rows=60).data
    assert identity_gap(data, "y") < 1e-12
    assert identity_gap(data, "y", width=2) > 0.01
    x, y = data.inputs.numpy(), data.targets["y"].numpy()[:, 0]
    later = {time: data.targets[time].numpy() for time in linear.COURSE}
    plain = LuPTS().fit(x, y, later={})
    through = LuPTS(linear.COURSE).fit(x, y, later=later)
    truth = course(0, rows=1).heads["y"].numpy()
    errors = [np.square(own.coef_ - truth).sum() for own in (through, plain)]
    assert errors[0] < 0.5 * errors[1]


def test_linear_models_by_hand():
    split = Holdout(train=40, validation=30, test=50)
    data = course(3, rows=120).data
    found = linear.linear_losses(
        lambda seed: course(seed, rows=120).data, [3], split, "y", linear.COURSE, [1e-9]
    )
    rows = split.draw(data, 3)
    train = torch.cat([torch.ones(40, 1), data.inputs[rows.train]], dim=1)
    test = torch.cat([torch.ones(50, 1), data.inputs[rows.test]], dim=1)
    weights = torch.linalg.lstsq(train.double(), data.targets["y"][rows.train]).solution
    error = float((test.double() @ weights - data.targets["y"][rows.test]).square().mean())
    assert found["least squares"][0] == pytest.approx(error, rel=1e-9)
    # A ridge that hardly shrinks is least squares.
    for name in ("least squares", "LuPTS"):
        np.testing.assert_allclose(found[f"{name}, ridge"], found[name], rtol=1e-6)


def test_a_table_that_knows_the_future_promises_more_than_it_delivers():
    found = linear.leaks(range(7000, 7004), test=300)
    honest = found.pop("filled with the training mean")
    np.testing.assert_array_equal(honest["promised"], honest["delivered"])
    for own in found.values():
        assert own["promised"].mean() < own["delivered"].mean()


def test_gains_of_the_nearest_and_the_farthest_horizon(page):
    found = experiments.gains(page)
    assert set(found) == {"in_1", "in_8"}
    assert all(values.shape == (2,) for values in found.values())
