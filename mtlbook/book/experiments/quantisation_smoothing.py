"""Section 7.5's contestants: a label alone, beside its degree or a second cut, and the rival.

All have six trials of gradient descent with momentum 0.9 and L2 penalties, the same rows, steps
and minibatches, and choose trial and stopping point by the label's validation loss. The rival
regresses the degree and calibrates the threshold on the validation labels; where it is compared,
the others' log-odds are calibrated on them, too.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mtlbook.auxiliary.auxiliary_task import check_auxiliaries, shuffled
from mtlbook.auxiliary.quantisation_smoothing import calibrated, clipped
from mtlbook.book.data.worlds.thresholded import thresholded
from mtlbook.book.experiments.auxiliary_tasks import alone, equal_trials, strengths
from mtlbook.book.experiments.networks import mlp
from mtlbook.book.experiments.results import error_reduction, error_reductions
from mtlbook.book.experiments.training import crossed, search, tuned
from mtlbook.book.experiments.without_page import WithoutPage
from mtlbook.book.page import Page
from mtlbook.data import embedded
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.data.scaling import scaled, standardised
from mtlbook.statistics import Effect
from mtlbook.tasks import Task
from mtlbook.training.results import Fit
from mtlbook.training.sampling import Mixed
from mtlbook.training.selection import Selected
from mtlbook.training.settings import Optimiser

LABEL, DEGREE, SECOND = "label", "degree", "second"
RATES, PENALTIES = (0.03, 0.1, 0.3), (0.003, 0.01)
# λ and its learning rate: a heavier loss takes shorter steps.
WEIGHTS = {0.3: 0.1, 1.0: 0.1, 3.0: 0.03}
# The contestants' names on the page, and in the record of the study.
ALONE, QUANTITY, CUT = "single-task", "with the quantity", "with a second cut"
WITHIN, SHUFFLED = "control: permuted within class", "control: shuffled"
RIVAL = "regressed, calibrated"
NAMES = (QUANTITY, CUT, WITHIN, SHUFFLED)
IN_RECORD = {
    ALONE: "label alone",
    QUANTITY: "with the quantity",
    CUT: "with a second cut",
    WITHIN: "quantity permuted within class",
    RIVAL: "regression of the quantity",
}
STEPS = 250
VALIDATION, TEST = 400, 3000

Data = Callable[[int], MultiTaskData]
Change = Callable[[MultiTaskData, int], MultiTaskData]


@dataclass(frozen=True)
class Setting:
    """Data with a label, its degree and a second cut, and what belongs to them.

    Attributes:
        data: from a seed to data whose rows have all labels.
        split: training, validation and test rows.
        width: hidden units.
        steps: optimiser steps.
    """

    data: Data
    split: Holdout
    width: int = 16
    steps: int = 300

    @property
    def common(self) -> dict[str, Any]:
        """What all trainings have in common."""
        return {
            "width": self.width,
            "split": self.split,
            "steps": self.steps,
            "sampler": Mixed(32),
            "validate_every": max(1, self.steps // 10),
            "evaluate_on": ("validation", "test"),
        }

    def changed(self, change: Change) -> "Setting":
        """The setting with each seed's data changed."""
        return replace(self, data=cache(lambda seed: change(self.data(seed), seed)))


def constructed(*, labels: int, prevalence: float, second: float = 0.5) -> Setting:
    """The world `thresholded`; the test rows don't depend on the number of labels."""
    most = 1600

    @cache
    def data(seed: int) -> MultiTaskData:
        rows = max(labels, most) + VALIDATION + TEST
        return thresholded(seed, rows=rows, prevalence=prevalence, second=second).data

    return Setting(data, Holdout(train=labels, validation=VALIDATION, test=TEST), steps=STEPS)


def diabetes(*, labels: int = 200) -> Setting:
    """442 patients: progression in the top quarter, the progression itself, and above the median.

    The cuts define the labels and are those of all patients; scales are those of training rows.
    """
    patients = embedded.diabetes()
    progression = patients.targets["progression"]
    cuts = torch.quantile(progression, torch.tensor([0.75, 0.5], dtype=progression.dtype))
    targets = {
        LABEL: (progression > cuts[0]).double(),
        DEGREE: progression,
        SECOND: (progression > cuts[1]).double(),
    }
    made = MultiTaskData.multi_label(three_tasks(), patients.inputs, targets)
    check_auxiliaries(made, LABEL)
    split = Holdout(train=labels, validation=100, test=142)
    return Setting(cache(partial(scaled, made, split)), split, steps=STEPS)


def least_losses(
    seeds: Sequence[int], prevalence: float, rows: int = 3000
) -> Float[np.ndarray, " seeds"]:
    """The least possible log loss of the constructed label, for each seed."""
    made = (thresholded(seed, rows=rows, prevalence=prevalence) for seed in seeds)
    return np.array([own.least_loss[LABEL] for own in made])


def three_tasks(metric: str | None = None) -> list[Task]:
    """The label first, so that trunk and its head are drawn before the others."""
    return [Task.binary(LABEL, metric=metric), Task.regression(DEGREE), Task.binary(SECOND)]


def gradient_descent(rate: float, penalty: float) -> Optimiser:
    """Momentum 0.9; unlike under Adam, a head whose loss is small moves little."""
    return partial(torch.optim.SGD, lr=rate, momentum=0.9, weight_decay=penalty)


def trials(rates: Iterable[float]) -> dict[str, dict[str, Any]]:
    """Learning rates by L2 penalties."""
    return {
        f"rate {rate:g}, L2 {penalty:g}": {"optimiser": gradient_descent(rate, penalty)}
        for rate in rates
        for penalty in PENALTIES
    }


def threshold_only(page: Page, setting: Setting) -> Selected:
    """The label alone: three learning rates by two penalties."""
    return alone(page, mlp, setting.data, LABEL, trials=trials(RATES), **setting.common)


def smoothed(page: Page, setting: Setting, *auxiliaries: str) -> Selected:
    """The label beside others, by default its degree: three weights λ by two penalties."""
    others = auxiliaries or (DEGREE,)
    tried = {}
    for weight, rate in WEIGHTS.items():
        tried |= crossed(strengths(LABEL, others, [weight]), trials([rate]))
    return tuned(
        page, mlp, setting.data, tried, tasks=[LABEL, *others], stopping=LABEL, **setting.common
    )


def regressed(page: Page, setting: Setting) -> dict[str, Fit]:
    """The degree alone, with as many trials; each stops by the degree's validation loss."""
    settings = setting.common | {"tasks": [DEGREE], "stopping": DEGREE}
    return search(page, mlp, setting.data, trials(RATES), **settings)


def compared(page: Page, setting: Setting) -> tuple[dict[str, Selected], dict[str, Fit]]:
    """The contestants on a setting, with equal trials: those with the label, and the rival's fits.

    Raises:
        UsageError: for a quantity that is among the inputs.
    """
    check_auxiliaries(setting.data(page.seeds[0]), LABEL)
    arms = {
        ALONE: threshold_only(page, setting),
        QUANTITY: smoothed(page, setting),
        CUT: smoothed(page, setting, SECOND),
        WITHIN: smoothed(page, setting.changed(within_class)),
    }
    equal_trials(*arms.values())
    return arms, regressed(page, setting)


def after_calibration(
    arms: Mapping[str, Selected], regression: Mapping[str, Fit], setting: Setting
) -> dict[str, Float[np.ndarray, " seeds"]]:
    """The calibrated losses of the label alone, of label and quantity, and of the rival."""
    found = {name: calibrated_loss(arms[name].fits, setting) for name in (ALONE, QUANTITY)}
    return found | {RIVAL: calibrated_loss(regression, setting, DEGREE)}


def recorded(setting: Setting, seeds: Sequence[int], device: str) -> pd.DataFrame:
    """What a study records of the contestants: columns seed, method, metric and value.

    Metrics are the log loss on test rows as it is (`loss`), after calibration (`calibrated loss`),
    and the label's own metric; the `constant`'s loss is the entropy of the test labels' share.
    """
    arms, regression = compared(WithoutPage("7.5", seeds, device), setting)
    found = {
        "loss": {name: arm.score(LABEL, "loss") for name, arm in arms.items()},
        "calibrated loss": after_calibration(arms, regression, setting),
    }
    own = setting.data(seeds[0]).tasks[0].metric.name
    found[own] = {name: arms[name].score(LABEL) for name in (ALONE, QUANTITY)}
    rows = [
        {"seed": seed, "method": IN_RECORD[name], "metric": metric, "value": value}
        for metric, losses in found.items()
        for name, values in losses.items()
        for seed, value in zip(seeds, values, strict=True)
    ]
    for seed in seeds:
        data = setting.data(seed)
        share = float(data.targets[LABEL][setting.split.draw(data, seed).test].mean())
        entropy = -share * np.log(share) - (1 - share) * np.log(1 - share)
        rows.append({"seed": seed, "method": "constant", "metric": "loss", "value": entropy})
    return pd.DataFrame(rows)


def of_record(results: pd.DataFrame, metric: str) -> dict[str, Float[np.ndarray, " seeds"]]:
    """A metric of the study's contestants by their names on the page."""
    values = results[results.metric == metric].groupby("method", sort=False)["value"]
    own = {method: each.to_numpy() for method, each in values}
    names = IN_RECORD | {"constant": "constant"}
    return {name: own[method] for name, method in names.items() if method in own}


def calibrated_loss(
    fits: Mapping[str, Fit], setting: Setting, task: str = LABEL
) -> Float[np.ndarray, " seeds"]:
    """The label's test loss when a task's prediction is calibrated on the validation labels.

    For each seed of the trial whose calibrated validation loss is least.

    Arguments:
        fits: the trials.
        setting: whose label and split.
        task: whose prediction is calibrated.
    """
    found = []
    for seed in next(iter(fits.values())).seeds:
        data = setting.data(seed)
        rows = setting.split.draw(data, seed)
        losses = []
        for fit in fits.values():
            model = fit.model(seed)
            with torch.no_grad():
                scores = {
                    part: model(data.inputs[chosen])[task]
                    for part, chosen in (("validation", rows.validation), ("test", rows.test))
                }
            rule = calibrated(scores["validation"], data.targets[LABEL][rows.validation])
            losses.append(
                [
                    _log_loss(rule(scores["validation"]), data.targets[LABEL][rows.validation]),
                    _log_loss(rule(scores["test"]), data.targets[LABEL][rows.test]),
                ]
            )
        found.append(min(losses)[1])
    return np.array(found)


def _log_loss(log_odds: Float[Tensor, "rows 1"], label: Float[Tensor, "rows 1"]) -> float:
    return float(F.binary_cross_entropy_with_logits(log_odds, label))


def reductions(
    losses: Mapping[str, Float[np.ndarray, " seeds"]],
    after: Mapping[str, Float[np.ndarray, " seeds"]],
) -> dict[str, Effect]:
    """Each contestant against the label alone; the rival `after` calibration of both."""
    found = {
        name: error_reduction(own, losses[ALONE]) for name, own in losses.items() if name in NAMES
    }
    return found | {RIVAL: error_reduction(after[RIVAL], after[ALONE])}


def won_back(
    losses: Mapping[str, Float[np.ndarray, " seeds"]],
    sizes: Mapping[str, int],
    least: Float[np.ndarray, " seeds"],
) -> tuple[dict[str, Float[np.ndarray, " seeds"]], dict[str, float]]:
    """Of the excess loss of the label alone, what the others remove, %, and label equivalents.

    Arguments:
        losses: by contestant.
        sizes: the labels of those with the label alone, the fewest first.
        least: the least possible loss.
    """
    curve = {size: losses[name] for name, size in sizes.items()}
    others = [name for name in losses if name != ALONE]
    removed = {
        name: error_reductions(losses[name] - least, losses[ALONE] - least) for name in others
    }
    return removed, {name: label_equivalents(losses[name], curve, least) for name in others}


def label_equivalents(
    loss: Float[np.ndarray, " seeds"],
    curve: Mapping[int, Float[np.ndarray, " seeds"]],
    least: Float[np.ndarray, " seeds"],
) -> float:
    """How many times as many labels single-task training needs for a loss.

    Mean excess losses over the least possible one are joined by straight lines in logarithms of
    labels and excess.

    Arguments:
        loss: of the method, with the curve's fewest labels.
        curve: the single-task losses by number of labels.
        least: the least possible loss.

    Returns:
        1 for a loss that is no lower than the curve's first; infinity for one below all of them.
    """
    sizes = sorted(curve)
    wanted = float(loss.mean() - least.mean())
    excess = [float(curve[size].mean() - least.mean()) for size in sizes]
    if wanted >= excess[0]:
        return 1.0
    for place in range(1, len(sizes)):
        if excess[place] <= wanted:
            ends = (excess[place], excess[place - 1])
            part = np.log(ends[1] / wanted) / np.log(ends[1] / ends[0])
            return float(sizes[place - 1] / sizes[0] * (sizes[place] / sizes[place - 1]) ** part)
    return float("inf")


# What happens to the degree -----------------------------------------------------------------------


def within_class(data: MultiTaskData, seed: int) -> MultiTaskData:
    """The degree permuted within each class: it keeps its tie to the label, and says no more."""
    return shuffled(data, DEGREE, seed, within=LABEL)


def among_all(data: MultiTaskData, seed: int) -> MultiTaskData:
    """The degree permuted among all rows."""
    return shuffled(data, DEGREE, seed)


def with_degree(data: MultiTaskData, values: Float[Tensor, "rows 1"]) -> MultiTaskData:
    """The same data with another degree."""
    return MultiTaskData.partial(
        data.tasks, data.inputs, data.targets | {DEGREE: values}, data.labelled
    )


def length_of_stay(data: MultiTaskData, seed: int) -> MultiTaskData:  # noqa: ARG001
    """A degree that rises up to the cut and falls beyond it, like the days until death or cure."""
    z = data.targets[DEGREE]
    cut = z[data.targets[LABEL] == 0].max()
    return with_degree(data, cut - (z - cut).abs())


def heavy_tailed(setting: Setting, limit: float | None = None) -> Setting:
    """The degree exp(2z), in units of the training rows: standardised, or clipped at a limit."""

    def change(data: MultiTaskData, seed: int) -> MultiTaskData:
        values = torch.exp(2 * data.targets[DEGREE])
        training = values[setting.split.draw(data, seed).train]
        if limit is None:
            return with_degree(data, standardised(values, training))
        return with_degree(data, clipped(values, training, limit))

    return setting.changed(change)
