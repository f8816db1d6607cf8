"""The contestants of section 7.5: equal trials, calibration by hand, labels read off a curve."""

from functools import cache

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from mtlbook.auxiliary.quantisation_smoothing import calibrated
from mtlbook.book.experiments import mlp
from mtlbook.book.experiments import quantisation_smoothing as experiment
from mtlbook.book.experiments.auxiliary_tasks import equal_trials, zero_weight_gap
from mtlbook.book.experiments.without_page import WithoutPage
from mtlbook.data.multi_task_data import Holdout

PAGE = WithoutPage("7.5", range(2), "cpu")


@pytest.fixture(scope="module")
def setting():
    whole = experiment.constructed(labels=60, prevalence=0.3)
    rows = torch.arange(200)
    split = Holdout(train=60, validation=40, test=50)
    return experiment.Setting(
        cache(lambda seed: whole.data(seed).subset(rows)), split, width=4, steps=6
    )


def test_contestants_have_equal_trials_and_weight_zero_is_the_label_alone(setting):
    alone = experiment.threshold_only(PAGE, setting)
    joint = experiment.smoothed(PAGE, setting)
    second = experiment.smoothed(PAGE, setting, "second")
    rival = experiment.regressed(PAGE, setting)
    assert equal_trials(alone, joint, second) == len(rival) == 6
    assert [task.name for task in next(iter(rival.values())).tasks] == ["degree"]
    gap = zero_weight_gap(
        PAGE,
        mlp,
        setting.data,
        "label",
        ["degree"],
        optimiser=experiment.gradient_descent(0.1, 0.003),
        **setting.common,
    )
    assert gap == 0.0


def test_the_rival_calibrates_on_validation_rows_and_is_chosen_there(setting):
    rival = experiment.regressed(PAGE, setting)
    found = experiment.calibrated_loss(rival, setting, "degree")
    seed, best = 1, (np.inf, np.inf)
    data = setting.data(seed)
    rows = setting.split.draw(data, seed)
    for fit in rival.values():
        predicted = fit.model(seed)(data.inputs)["degree"].detach()
        rule = calibrated(predicted[rows.validation], data.targets["label"][rows.validation])
        chance = torch.sigmoid(rule(predicted)).numpy()
        best = min(
            best,
            tuple(
                log_loss(data.targets["label"][part].numpy().ravel(), chance[part].ravel())
                for part in (rows.validation, rows.test)
            ),
        )
    assert found[1] == pytest.approx(best[1], abs=1e-10)


def test_labels_are_read_off_a_power_law_exactly():
    least = np.full(6, 0.1)
    curve = {n: 0.1 + 5 / n * np.ones(6) for n in (100, 200, 800)}
    for loss, times in ((0.15, 1.0), (0.16, 1.0), (0.125, 2.0), (0.1 + 5 / 600, 6.0)):
        found = experiment.label_equivalents(np.full(6, loss), curve, least)
        assert found == pytest.approx(times, rel=1e-9)
    assert experiment.label_equivalents(np.full(6, 0.101), curve, least) == float("inf")


def test_what_is_won_back_is_relative_to_the_excess_loss():
    losses = {
        name: np.full(4, loss)
        for name, loss in ((experiment.ALONE, 0.3), ("more", 0.2), (experiment.QUANTITY, 0.25))
    }
    removed, times = experiment.won_back(
        losses, {experiment.ALONE: 100, "more": 400}, np.full(4, 0.1)
    )
    np.testing.assert_allclose(removed["more"], 50)
    np.testing.assert_allclose(removed[experiment.QUANTITY], 25)
    assert times["more"] == pytest.approx(4)
    assert times[experiment.QUANTITY] == pytest.approx(4 ** (np.log(4 / 3) / np.log(2)))


def test_reductions_compare_the_rival_after_calibration_of_both():
    names = (experiment.ALONE, experiment.QUANTITY, experiment.RIVAL)
    losses = {name: np.full(4, loss) for name, loss in zip(names[:2], (0.4, 0.3), strict=True)}
    after = {name: np.full(4, loss) for name, loss in zip(names, (0.2, 0.2, 0.1), strict=True)}
    found = experiment.reductions(losses, after)
    assert found[experiment.QUANTITY].estimate == pytest.approx(25)
    assert found[experiment.RIVAL].estimate == pytest.approx(50)
    assert set(found) == {experiment.QUANTITY, experiment.RIVAL}


def test_more_labels_leave_the_test_rows_and_another_prevalence_the_inputs():
    few, many = (experiment.constructed(labels=n, prevalence=0.1) for n in (400, 1600))
    rows = [own.split.draw(own.data(3), 3) for own in (few, many)]
    assert torch.equal(rows[0].test, rows[1].test)
    assert torch.equal(rows[0].validation, rows[1].validation)
    assert set(rows[0].train.tolist()) <= set(rows[1].train.tolist())
    other = experiment.constructed(labels=400, prevalence=0.5)
    assert torch.equal(few.data(3).inputs, other.data(3).inputs)
    assert torch.equal(few.data(3).targets["degree"], other.data(3).targets["degree"])


def test_controls_keep_what_they_say(setting):
    plain = setting.data(0).targets
    within = setting.changed(experiment.within_class).data(0).targets
    shuffled = setting.changed(experiment.among_all).data(0).targets
    for other in (within, shuffled):
        assert torch.equal(other["label"], plain["label"])
        assert torch.equal(other["degree"].sort(0).values, plain["degree"].sort(0).values)
        assert not torch.equal(other["degree"], plain["degree"])
    above = plain["label"] == 1
    assert float(within["degree"][above].min()) > float(within["degree"][~above].max())
    assert float(shuffled["degree"][above].min()) < float(shuffled["degree"][~above].max())


def test_the_length_of_stay_falls_beyond_the_cut(setting):
    plain = setting.data(0)
    stay = experiment.length_of_stay(plain, 0).targets["degree"]
    z, above = plain.targets["degree"], plain.targets["label"] == 1
    cut = z[~above].max()
    torch.testing.assert_close(stay[~above], z[~above])
    torch.testing.assert_close(stay[above], 2 * cut - z[above])


def test_a_heavy_tail_is_clipped_by_what_training_rows_say(setting):
    raw = experiment.heavy_tailed(setting).data(0).targets["degree"]
    short = experiment.heavy_tailed(setting, limit=3.0).data(0).targets["degree"]
    train = setting.split.draw(setting.data(0), 0).train
    assert float(raw[train].mean()) == pytest.approx(0, abs=1e-12)
    assert float(short.max()) == 3.0
    assert torch.equal(raw.argsort(0)[:100], short.argsort(0)[:100])


def test_diabetes_is_the_top_quarter_and_the_degree_is_no_input():
    data = experiment.diabetes().data(0)
    assert float(data.targets["label"].mean()) == pytest.approx(0.25, abs=0.01)
    assert float(data.targets["second"].mean()) == pytest.approx(0.5, abs=0.01)
    assert data.inputs.shape == (442, 10)
    above = data.targets["label"] == 1
    assert float(data.targets["degree"][above].min()) > float(data.targets["degree"][~above].max())


def test_the_least_losses_are_those_of_the_world():
    found = experiment.least_losses(range(2), prevalence=0.1, rows=50)
    assert found.shape == (2,)
    assert (found > 0).all()
    assert (found < 0.325).all()
