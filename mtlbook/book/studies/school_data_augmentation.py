r"""Section 4.1 on School: what a school's examination scores gain from other schools' students.

Predicting a student's score is a task in each school. The students of two schools are different
people, so that what the inputs leave open is noise of each school's own, and the laws are alike:
the setting of section 4.1 on data that nobody constructed for it.

Protocol. The data are those of Bakker and Heskes (JMLR 4, 2003) in the coding of Argyriou, Evgeniou
and Pontil (2007): 15,362 students of 139 schools, 27 inputs. 74 schools have 100 students or more.
For each seed 64 of them are drawn; of each 40 students are the test, up to 40 others for training
and up to 20 others for validation. Inputs and scores are standardised with means and standard
deviations of the training students of the 64 schools; errors are reported in units of the variance
of all students' scores.

* *Dials*: m = 5, 10, 20 or 40 students a school for training (and half as many for validation), and
  groups of T = 1, 16 or 64 schools, each group with a network of its own: one hidden layer that
  the group shares and a linear head a school. T = 1 are separate networks.
* *Trials*: for each T and m four settings, every pair of values of width, learning rate and weight
  decay once (`TRIALS`), and the stopping point, looked for every ten steps. Each school chooses
  both by its own validation students, whatever T: a network for a group is chosen anew for each of
  its schools. (By the validation students of the whole group a common network would be chosen on T
  times the labels.)
* *Beside them*: ridge regression for each school alone and one for all 64 schools, λ from nine
  values by the same validation students; and, as the negative control, T = 64 where each school's
  inputs stand in an order of its own, so that no law is shared.

Two definitions of the explained variance are in use, and for the same predictions they lie far
apart: 100 (1 − SSE / SST) with SST around the mean of all test students ("total": this is what most
tables of the literature show) or around each school's own mean ("within schools"). A school's mean
is most of what a pooled model knows. As a tie to the literature the study also records pooled least
squares on random 75 % of all students: about 34 % total, and 22 % within schools.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from sklearn.linear_model import LinearRegression, Ridge
from torch import Tensor, nn

from mtlbook.data import Consecutive, MultiTaskData
from mtlbook.data.multi_task_data import PARTS
from mtlbook.data.registry import fetch
from mtlbook.data.scaling import standardised
from mtlbook.data.school import MEASURED, read_schools
from mtlbook.randomness import generator
from mtlbook.tasks import Task
from mtlbook.training.fit import fit
from mtlbook.training.results import Evaluation, Fit
from mtlbook.training.sampling import Mixed
from mtlbook.training.settings import Settings
from mtlbook.training.stopping import ROUNDING

SECTION = "4.1"
DATA = ("school",)
SEEDS = 10

SCHOOLS = 64
TEST = 40
STUDENTS = (5, 10, 20, 40)
TOGETHER = (1, 16, 64)
# Width, learning rate and weight decay: a half of the 2 × 2 × 2 settings.
TRIALS = ((4, 0.005, 0.3), (4, 0.02, 1.0), (16, 0.005, 1.0), (16, 0.02, 0.3))
STEPS = 120
EVERY = 10  # steps between two looks at the validation students
PENALTIES = tuple(10.0**power for power in range(-3, 6))
SCORE = Task.regression("score")


@dataclass(frozen=True, eq=False)
class Students:
    """The drawn schools, the same number of students in each.

    Attributes:
        inputs, scores: of the parts train, validation and test.
        level, spread: the unit of the scores: these times `spread` plus `level` are in units of the
            scores of all students, in which errors are reported.
    """

    inputs: Mapping[str, Float[Tensor, "schools students inputs"]]
    scores: Mapping[str, Float[Tensor, "schools students"]]
    level: float = 0.0
    spread: float = 1.0

    def standardised(self, reference: "Students") -> "Students":
        """The students in units of the training students of `reference`."""
        known, marks = reference.inputs["train"].flatten(0, 1), reference.scores["train"]
        level, spread = float(marks.mean()), float(marks.std(correction=0))
        return Students(
            {
                part: standardised(x.flatten(0, 1), known).view_as(x)
                for part, x in self.inputs.items()
            },
            {part: (y - level) / spread for part, y in self.scores.items()},
            level,
            spread,
        )

    def reported(self, scores: Float[np.ndarray, "schools test"]) -> Float[np.ndarray, "..."]:
        """Scores, or predictions of them, in units of the scores of all students."""
        return self.spread * scores + self.level

    @property
    def truth(self) -> Float[np.ndarray, "schools test"]:
        """The test scores in units of the scores of all students."""
        return self.reported(self.scores["test"].numpy())

    def group(self, schools: Sequence[int]) -> MultiTaskData:
        """Some schools as one regression; the last input is a school's number in the group."""
        rows, targets = [], []
        for part in PARTS:
            inputs, scores = self.inputs[part][schools], self.scores[part][schools]
            number = torch.arange(len(schools)).to(inputs)[:, None, None]
            rows.append(torch.cat([inputs, number.expand(*scores.shape, 1)], dim=2).flatten(0, 1))
            targets.append(scores.flatten())
        return MultiTaskData.multi_label([SCORE], torch.cat(rows), {"score": torch.cat(targets)})


class SharedLayer(nn.Module):
    """One hidden layer for all schools of a group and a linear head for each: hard sharing.

    The heads are the outputs of one linear map, from which each student's school takes its own.
    """

    def __init__(self, inputs: int, width: int, schools: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(inputs, width), nn.Tanh())
        self.heads = nn.Linear(width, schools)
        # All schools start from the mean score, not from laws drawn at random that contradict.
        nn.init.zeros_(self.heads.weight)
        nn.init.zeros_(self.heads.bias)

    def forward(self, inputs: Float[Tensor, "students columns"]) -> dict[str, Tensor]:
        """The score that is predicted for each student, `(students, 1)`."""
        school = inputs[:, -1:].long()
        return {"score": self.heads(self.trunk(inputs[:, :-1])).gather(1, school)}


def run(
    seeds: Sequence[int],
    device: str,
    *,
    schools: int = SCHOOLS,
    students: Sequence[int] = STUDENTS,
    together: Sequence[int] = TOGETHER,
    steps: int = STEPS,
) -> pd.DataFrame:
    """Columns seed, method, schools (T), students (m), metric, value.

    Metrics: the mean squared error averaged over the schools, in units of the scores' variance; the
    share of the schools whose error is above that of their separate network, in percent; and both
    explained variances, in percent.
    """
    rows = []
    for m in students:
        drawn = {seed: draw(seed, schools, m) for seed in seeds}
        chosen = {seed: own.standardised(own) for seed, own in drawn.items()}
        mixed = {seed: shuffled_inputs(own, seed) for seed, own in chosen.items()}
        predicted = {
            ("networks", t): networks(chosen, t, m, schools, steps, device, EVERY) for t in together
        }
        predicted["networks, inputs shuffled", schools] = networks(
            mixed, schools, m, schools, steps, device, EVERY
        )
        for name, model in (("ridge", alone), ("ridge", pooled)):
            size = 1 if model is alone else schools
            predicted[name, size] = {seed: model(own) for seed, own in chosen.items()}
        for (method, t), of_seeds in predicted.items():
            for seed, students_of_seed in chosen.items():
                truth = students_of_seed.truth
                found = students_of_seed.reported(of_seeds[seed])
                separate = students_of_seed.reported(predicted["networks", 1][seed])
                own, theirs = school_errors(found, truth), school_errors(separate, truth)
                worse = {"schools worse than alone": 100 * float((own > theirs).mean())}
                for metric, value in (scores(found, truth) | worse).items():
                    rows.append((seed, method, t, m, metric, value))
    rows += [
        (seed, "least squares, 75 % of all students", 139, 0, metric, value)
        for seed in seeds
        for metric, value in least_squares(seed).items()
    ]
    return pd.DataFrame(rows, columns=["seed", "method", "schools", "students", "metric", "value"])


def published() -> tuple[list[Float[Tensor, "students 27"]], list[Float[Tensor, " students"]]]:
    """Inputs (without the constant) and scores of each school, the latter in the reported unit.

    The unit, mean 0 and variance 1 over all students, is that of errors in the record. What is
    learnt from is put into units of training students, `Students.standardised`, and so does not
    depend on it.
    """
    inputs, scores = read_schools(fetch("school") / "school.mat")
    every = torch.cat(scores)
    return (
        [school[:, MEASURED] for school in inputs],
        [standardised(own, every).flatten() for own in scores],
    )


def draw(seed: int, schools: int, m: int) -> Students:
    """A seed's schools and students; fewer students are the first of more."""
    inputs, scores = published()
    needed = TEST + max(STUDENTS) + max(STUDENTS) // 2
    large = [number for number, own in enumerate(scores) if len(own) >= needed]
    order = torch.randperm(len(large), generator=generator(seed, "schools")).tolist()
    starts = {"test": (0, TEST), "train": (TEST, m), "validation": (TEST + max(STUDENTS), m // 2)}
    parts: dict[str, list[tuple[Tensor, Tensor]]] = {part: [] for part in starts}
    for number in (large[place] for place in order[:schools]):
        own = torch.randperm(len(scores[number]), generator=generator(seed, "students", number))
        for part, (start, size) in starts.items():
            taken = own[start : start + size]
            parts[part].append((inputs[number][taken], scores[number][taken]))
    return Students(
        {part: torch.stack([x for x, _ in pairs]) for part, pairs in parts.items()},
        {part: torch.stack([y for _, y in pairs]) for part, pairs in parts.items()},
    )


def shuffled_inputs(students: Students, seed: int) -> Students:
    """Each school's inputs in an order of its own: what a school could learn alone stays."""
    schools, _, columns = students.inputs["test"].shape
    source = generator(seed, "order of the inputs")
    orders = [torch.randperm(columns, generator=source) for _ in range(schools)]
    inputs = {
        part: torch.stack([own[:, order] for own, order in zip(x, orders, strict=True)])
        for part, x in students.inputs.items()
    }
    return replace(students, inputs=inputs)


def networks(
    chosen: Mapping[int, Students],
    together: int,
    m: int,
    schools: int,
    steps: int,
    device: str,
    every: int = 5,
) -> dict[int, Float[np.ndarray, "schools test"]]:
    """Predictions of the test scores for each seed, a network for each group of schools.

    The groups of all seeds are replicas that are trained at once, each with its own initial
    weights; each school takes the trial and the step at which its own validation error is least,
    of the steps after `every` steps.
    """
    groups = schools // together
    replicas = [seed * groups + group for seed in chosen for group in range(groups)]
    split = Consecutive(train=together * m, validation=together * (m // 2), test=together * TEST)

    @cache
    def data(replica: int) -> MultiTaskData:
        seed, group = divmod(replica, groups)
        return chosen[seed].group(range(group * together, (group + 1) * together))

    best = BestOfEachSchool(data, together, m // 2)
    train_trials(
        together,
        data,
        replicas,
        split,
        steps,
        device,
        f"{together} schools, {m} students",
        stopping=None,
        validate_every=every,
        evaluate_on=("validation",),
        callbacks=[best],
    )
    predicted = np.stack([best.predicted[replica] for replica in replicas])
    return dict(zip(chosen, predicted.reshape(len(chosen), schools, TEST), strict=True))


def train_trials(
    schools: int,
    data: Callable[[int], MultiTaskData],
    seeds: Iterable[int],
    split: Consecutive,
    steps: int,
    device: str,
    label: str,
    **settings: Any,
) -> dict[str, Fit]:
    """A training of networks for so many schools for each of the `TRIALS`.

    By default the weights with the least sum of all schools' validation losses are kept.
    """
    common = Settings(
        split=split,
        steps=steps,
        sampler=Mixed(None),
        stopping="sum",
        validate_every=5,
        device=device,
        progress_label=label,
    )
    trials = {}
    for width, rate, decay in TRIALS:
        optimiser = partial(torch.optim.AdamW, lr=rate, weight_decay=decay)
        trials[f"width {width}, rate {rate}, decay {decay}"] = fit(
            partial(network, width=width, schools=schools),
            data,
            seeds=seeds,
            settings=replace(common, optimiser=optimiser, **settings),
        )
    return trials


class BestOfEachSchool:
    """A callback of several trainings: the predictions with each school's least validation error.

    Arguments:
        data: the group of each replica.
        schools: in a group.
        validation: students of each.

    Attributes:
        predicted: for each replica the predictions for its test students.
    """

    def __init__(self, data: Callable[[int], MultiTaskData], schools: int, validation: int) -> None:
        self._data, self._schools, self._validation = data, schools, validation
        self._least: dict[int, Float[np.ndarray, " schools"]] = {}
        self.predicted: dict[int, Float[np.ndarray, "schools test"]] = {}

    @torch.no_grad()
    def __call__(self, evaluation: Evaluation) -> None:
        """Take the present predictions where they are better than ever on validation students."""
        shown = self._schools * (self._validation + TEST)
        for replica in evaluation.seeds:
            own = self._data(replica)
            model = evaluation.model(evaluation.trials[0], replica)
            scores = model(own.inputs[-shown:])["score"].numpy().ravel()
            truth = own.targets["score"][-shown:].numpy().ravel()
            first = self._schools * self._validation
            residuals = (scores - truth)[:first].reshape(self._schools, -1)
            error, test = np.square(residuals).mean(1), scores[first:].reshape(self._schools, -1)
            least = self._least.setdefault(replica, np.full(self._schools, np.inf))
            kept = self.predicted.setdefault(replica, test.copy())
            better = error < least * (1 - ROUNDING)
            least[better], kept[better] = error[better], test[better]


def network(data: MultiTaskData, _seed: int, *, width: int, schools: int) -> SharedLayer:
    """A network for the schools of a group, whose last input is a school's number."""
    return SharedLayer(data.inputs.shape[1] - 1, width, schools)


def alone(students: Students) -> Float[np.ndarray, "schools test"]:
    """Ridge regression for each school."""
    return np.stack([_ridge(students, [school]) for school in range(len(students.scores["test"]))])


def pooled(students: Students) -> Float[np.ndarray, "schools test"]:
    """One ridge regression for all schools, which knows nothing of the school."""
    shape = students.scores["test"].shape
    return _ridge(students, range(shape[0])).reshape(shape)


def _ridge(students: Students, schools: Sequence[int]) -> Float[np.ndarray, " test"]:
    """Test predictions of ridge regression on some schools, λ by their validation students."""
    x = {part: own[schools].flatten(0, 1).numpy() for part, own in students.inputs.items()}
    y = {part: own[schools].flatten().numpy() for part, own in students.scores.items()}
    models = [Ridge(penalty).fit(x["train"], y["train"]) for penalty in PENALTIES]
    errors = [np.square(each.predict(x["validation"]) - y["validation"]).mean() for each in models]
    return models[int(np.argmin(errors))].predict(x["test"])


def school_errors(
    predicted: Float[np.ndarray, "schools test"], truth: Float[np.ndarray, "schools test"]
) -> Float[np.ndarray, " schools"]:
    """The mean squared error of each school."""
    return np.square(predicted - truth).mean(1)


def scores(
    predicted: Float[np.ndarray, "schools test"], truth: Float[np.ndarray, "schools test"]
) -> dict[str, float]:
    """The error averaged over the schools, and the explained variance by both definitions."""
    residual = np.square(predicted - truth).sum()
    total = np.square(truth - truth.mean()).sum()
    within = np.square(truth - truth.mean(1, keepdims=True)).sum()
    return {
        "mean squared error": float(school_errors(predicted, truth).mean()),
        "explained variance, total": float(100 * (1 - residual / total)),
        "explained variance, within schools": float(100 * (1 - residual / within)),
    }


def least_squares(seed: int) -> dict[str, float]:
    """Pooled least squares on random 75 % of all students, tested on the others."""
    inputs, marks = published()
    school = np.repeat(np.arange(len(marks)), [len(own) for own in marks])
    x, y = torch.cat(inputs).numpy(), torch.cat(marks).numpy()
    order = torch.randperm(len(y), generator=generator(seed, "all students")).numpy()
    train, test = np.split(order, [round(0.75 * len(y))])
    truth, owner = y[test], school[test]
    residual = np.square(LinearRegression().fit(x[train], y[train]).predict(x[test]) - truth).sum()
    means = np.bincount(owner, truth, len(marks)) / np.bincount(owner, minlength=len(marks)).clip(1)
    return {
        "explained variance, total": float(
            100 * (1 - residual / np.square(truth - truth.mean()).sum())
        ),
        "explained variance, within schools": float(
            100 * (1 - residual / np.square(truth - means[owner]).sum())
        ),
    }
