r"""Section 4.4 on School: what new schools gain from a representation that other schools learnt.

Predicting a student's score is a task in each school, and the schools of one education authority
are draws from one environment in the sense of Baxter (2000), if anything is.

Protocol. Data, coding, schools and students are drawn as in `school_data_augmentation`: of the 74
schools with 100 students or more each seed draws 64, and of each school 40 students for the test,
up to 40 others for training and up to 20 others for validation. The first 16 schools are **new**;
the others are known. Inputs and scores are standardised with means and standard deviations of the
known schools' training students; errors are reported in units of the variance of all students'
scores.

* *Representation*: a hidden tanh layer with a linear head for each of K = 1, 4, 16 or 48 known
  schools, trained on 40 students of each; four settings of width, learning rate and weight decay,
  and the stopping point, chosen by the 20 validation students of the same schools. Then frozen.
* *New schools*, with m = 5, 10, 20 or 40 students for training and half as many for validation: a
  linear head with an intercept for each school on the frozen layer, in closed form, its weight
  decay one of four values, chosen by the school's own validation students.
* *Baselines*: a network for each new school alone, four settings and the stopping point chosen by
  the same validation students; ridge regression for each new school alone, λ from nine values.
* *Two bounds for comparison*: "common law", least squares pooled over the 48 known schools, which
  uses none of the new school's students; and "head on the common law", for which that prediction is
  the frozen representation, of one feature.

The explained variance is recorded by both definitions in use, around the mean of all test students
("total") and around each school's own mean ("within schools"); for the same predictions the two lie
far apart (pooled least squares on all 139 schools: about 34 % and 22 to 25 %).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from sklearn.linear_model import LinearRegression
from torch import Tensor

from mtlbook.book.studies.school_data_augmentation import (
    STEPS,
    TEST,
    Students,
    alone,
    draw,
    networks,
    scores,
    train_trials,
)
from mtlbook.data import Consecutive
from mtlbook.data.multi_task_data import PARTS
from mtlbook.training.selection import select
from mtlbook.transfer.linear_probe import hidden_layer, tuned_head

SECTION = "4.4"
DATA = ("school",)
SEEDS = 10

SCHOOLS = 64
NEW = 16
KNOWN = (1, 4, 16, 48)
STUDENTS = (5, 10, 20, 40)
# Students of each known school, the most that there are.
LEARNT_FROM = 40
PENALTIES = (0.01, 0.1, 1.0, 10.0)

Represent = Callable[[Float[Tensor, "students inputs"]], Float[Tensor, "students features"]]


def run(
    seeds: Sequence[int],
    device: str,
    *,
    schools: int = SCHOOLS,
    new: int = NEW,
    known: Sequence[int] = KNOWN,
    students: Sequence[int] = STUDENTS,
    steps: int = STEPS,
) -> pd.DataFrame:
    """Columns seed, method, schools (K), students (m), metric, value.

    Metrics: the mean squared error averaged over the new schools, in units of the scores' variance,
    and both explained variances, in percent.
    """
    raw = {seed: part(draw(seed, schools, LEARNT_FROM), range(new, schools)) for seed in seeds}
    old = {seed: own.standardised(own) for seed, own in raw.items()}
    laws = {seed: common_law(old[seed]) for seed in seeds}
    layers = {count: representations(old, count, steps, device) for count in known}
    rows = []
    for m in students:
        chosen = {
            seed: part(draw(seed, schools, m), range(new)).standardised(raw[seed]) for seed in seeds
        }
        separate = networks(chosen, 1, m, new, steps, device)
        for seed, own in chosen.items():
            predicted = {
                ("network alone", 0): separate[seed],
                ("ridge alone", 0): alone(own),
                ("common law", schools - new): laws[seed](own.inputs["test"])[:, :, 0].numpy(),
                ("head on the common law", schools - new): heads(own, laws[seed]),
            }
            for count, of_seeds in layers.items():
                predicted["head on a frozen layer", count] = heads(own, of_seeds[seed])
            rows += [
                (seed, method, count, m, metric, value)
                for (method, count), values in predicted.items()
                for metric, value in scores(own.reported(values), own.truth).items()
            ]
    return pd.DataFrame(rows, columns=["seed", "method", "schools", "students", "metric", "value"])


def part(students: Students, schools: range) -> Students:
    """Some of the schools."""
    own = slice(schools.start, schools.stop)
    return replace(
        students,
        inputs={name: x[own] for name, x in students.inputs.items()},
        scores={name: y[own] for name, y in students.scores.items()},
    )


def common_law(students: Students) -> Represent:
    """Least squares over all students of these schools, as a representation of one feature."""
    x = students.inputs["train"].flatten(0, 1).numpy()
    model = LinearRegression().fit(x, students.scores["train"].flatten().numpy())
    weights = torch.from_numpy(model.coef_)[:, None]
    return lambda inputs: inputs @ weights + float(model.intercept_)


def representations(
    known: Mapping[int, Students], count: int, steps: int, device: str
) -> dict[int, Represent]:
    """Each seed's hidden layer that the first `count` known schools learnt."""
    validation = LEARNT_FROM // 2
    split = Consecutive(train=count * LEARNT_FROM, validation=count * validation, test=count * TEST)
    trials = train_trials(
        count,
        lambda seed: known[seed].group(range(count)),
        known,
        split,
        steps,
        device,
        f"{count} known schools",
    )
    winners = select(trials).choices["score"].to_dict()
    return {
        seed: partial(hidden_layer, trials[winners[seed]].model(seed).get_submodule("trunk"))
        for seed in known
    }


def heads(students: Students, represent: Represent) -> Float[np.ndarray, "schools test"]:
    """Test predictions of a head for each school on a frozen representation."""
    predicted = []
    for school in range(len(students.scores["test"])):
        hidden = represent(torch.cat([students.inputs[name][school] for name in PARTS]))
        target = torch.cat([students.scores[name][school] for name in PARTS])[:, None]
        sizes = [len(students.scores[name][school]) for name in PARTS]
        predicted.append(tuned_head(hidden, target, sizes[0], sizes[1], PENALTIES)[:, 0])
    return torch.stack(predicted).numpy()
