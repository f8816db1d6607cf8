"""Section 7.7: linear models with and without the future, and tables that know it by mistake."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import log_loss, mean_squared_error
from torch import Tensor

from mtlbook.auxiliary.future_to_present import LuPTS
from mtlbook.book.data.worlds.severity import course, horizons
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.randomness import generator

OverSeeds = Float[np.ndarray, " seeds"]
PENALTIES = (0.1, 1.0, 10.0, 100.0)  # of each step's ridge, for columns of variance 1
COURSE = ("time_2", "time_3")  # the later times of the world `course`
VALIDATION, TEST = 100, 1000


def linear_losses(
    data: Callable[[int], MultiTaskData],
    seeds: Sequence[int],
    split: Holdout,
    main: str,
    order: Sequence[str],
    penalties: Sequence[float] = PENALTIES,
) -> dict[str, OverSeeds]:
    """Test losses of linear models of the main task, with and without what is measured later.

    Least squares and LuPTS have nothing to tune. With a ridge in each step they try four penalties
    each, of which the validation loss chooses. A binary main task has a logistic regression as its
    last step.

    Arguments:
        data: from a seed to data in which every row has all labels.
        seeds: of the data and the split.
        split: as for networks.
        main: the task that counts.
        order: the tasks that are measured later, the earliest first.
        penalties: of the ridges that are tried.

    Returns:
        By the model's name a test loss for each seed: the mean squared error, or the log loss.
    """
    found = [_linear(data(seed), split, seed, main, order, penalties) for seed in seeds]
    return {name: np.array([each[name] for each in found]) for name in found[0]}


def course_losses(
    seeds: Sequence[int], *, rows: int = 60, direct: float = 0.0
) -> dict[str, OverSeeds]:
    """Linear models on the world `course`, whose outcome may go past the measurements."""

    def data(seed: int) -> MultiTaskData:
        return course(seed, rows=rows + VALIDATION + TEST, direct=direct).data

    return linear_losses(data, seeds, Holdout(rows, VALIDATION, TEST), "y", COURSE)


def _linear(
    data: MultiTaskData,
    split: Holdout,
    seed: int,
    main: str,
    order: Sequence[str],
    penalties: Sequence[float],
) -> dict[str, float]:
    rows = split.draw(data, seed)
    x, y = data.inputs.numpy(), data.targets[main][:, 0].numpy()
    later = {name: data.targets[name][rows.train].numpy() for name in order}
    binary = next(task for task in data.tasks if task.name == main).kind == "binary"

    def loss(model: Any, part: Tensor) -> float:
        if binary:
            return float(log_loss(y[part], model.predict_proba(x[part])[:, 1], labels=[0, 1]))
        return float(mean_squared_error(y[part], model.predict(x[part])))

    def fitted(penalty: float, through: bool) -> Any:
        step: Any = Ridge(penalty) if penalty else LinearRegression()
        # scikit-learn's logistic regression adds half of the squared weights to C times the loss.
        last = (
            LogisticRegression(C=1 / penalty if penalty else np.inf, max_iter=1000)
            if binary
            else step
        )
        own = order if through else ()
        model = LuPTS(own, step=step, last=last)
        return model.fit(x[rows.train], y[rows.train], later={name: later[name] for name in own})

    found = {}
    for name, through in (("least squares", False), ("LuPTS", True)):
        found[name] = loss(fitted(0.0, through), rows.test)
        tried = [fitted(penalty, through) for penalty in penalties]
        best = min(tried, key=lambda model: loss(model, rows.validation))
        found[f"{name}, ridge"] = loss(best, rows.test)
    return found


def leaks(
    seeds: Sequence[int], *, rows: int = 60, test: int = 1000, gaps: float = 0.5
) -> dict[str, dict[str, OverSeeds]]:
    """What a table that knows the future promises, and what is delivered when the future is not in.

    In the world `horizons`, the severity in four steps is predicted by least squares from the 20
    inputs and the severity measured now, of which a part is missing. Three ways to prepare that
    column: gaps filled with the training rows' mean; with the patient's *next* value; the column
    centred by each patient's mean over now and the next two values.

    Arguments:
        seeds: of the data.
        rows: for training.
        test: rows that are predicted.
        gaps: the share of missing values.

    Returns:
        For each way the mean squared error of each seed, `promised` by test rows prepared like the
        training rows, and `delivered` where the later values of the test rows are not there yet.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for seed in seeds:
        made = horizons(seed, rows=rows + test)
        targets = made.data.targets
        now = (made.data.inputs @ made.heads["in_1"])[:, None]
        source = generator(seed, "leaks", "gaps")
        gap = torch.rand(rows + test, 1, generator=source, dtype=now.dtype) < gaps
        mean = now[:rows][~gap[:rows]].mean()
        plain = torch.where(gap, mean, now)
        whole = torch.cat([plain, targets["in_1"], targets["in_2"]], dim=1).mean(1, keepdim=True)
        ways = {
            "filled with the training mean": (plain, plain),
            "filled with the next value": (torch.where(gap, targets["in_1"], now), plain),
            "centred by the course's mean": (plain - whole, plain - plain),
        }
        for way, (prepared, known) in ways.items():
            x, later = (torch.cat([made.data.inputs, c], dim=1).numpy() for c in (prepared, known))
            y = targets["in_4"][:, 0].numpy()
            model = LinearRegression().fit(x[:rows], y[:rows])
            errors = found.setdefault(way, {"promised": [], "delivered": []})
            for what, table in (("promised", x), ("delivered", later)):
                errors[what].append(
                    float(mean_squared_error(y[rows:], model.predict(table[rows:])))
                )
    return {way: {what: np.array(e) for what, e in own.items()} for way, own in found.items()}
