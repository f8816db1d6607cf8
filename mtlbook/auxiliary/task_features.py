r"""Section 7.9, what auxiliary tasks are helpful: what can be known of a task before it is tried.

Of its labels the entropy $H = -\sum_c p_c \log p_c$ and the kurtosis of the class counts (Martínez
Alonso and Plank, 2017); of its single-task training loss $L(i)$ the slopes at 10, 20, 30, 50 and
70 % and the parameters of a logarithmic fit (Bingel and Søgaard, 2017, section 4). Features of a
pair, such as the early cosine of the gradients, come as matrices
(`mtlbook.training.helpful_tasks` records them).

**Where it fails.** A logarithmic fit of the form $b \log(c i + d) + a$ has one parameter too many,
for $b \log(c i + d) + a = b \log(i + d/c) + (a + b \log c)$: a fitted $c$ depends on where the
optimiser starts. Here only $s = d/c$ is estimated.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped
from numpy import ndarray

from mtlbook.errors import UsageError

SHARES = (0.1, 0.2, 0.3, 0.5, 0.7)
PAIR = ["main", "auxiliary"]

Labels = Sequence[int] | Shaped[ndarray, " rows"]


def label_entropy(labels: Labels) -> float:
    """The entropy of a classification's labels, in nats: log C for C equally frequent classes.

    Raises:
        UsageError: for no labels, or numbers that are no classes.

    Example:
        >>> round(label_entropy([0, 0, 1, 1]), 4), label_entropy([3, 3])
        (0.6931, 0.0)
    """
    shares = _counts(labels) / _counts(labels).sum()
    return float(-(shares * np.log(shares)).sum()) + 0.0


def count_kurtosis(labels: Labels) -> float:
    """The kurtosis m₄ / m₂² of the counts of the classes that occur.

    It is at least 1, and 1 for any two classes of different counts: of binary tasks it says
    nothing. Of equal counts it is 0/0; here 1, the least possible value, for no class stands out.

    Raises:
        UsageError: as for `label_entropy`.

    Example:
        >>> count_kurtosis([0, 0, 1, 1]), round(count_kurtosis([0] * 85 + [1, 2, 3] * 5), 3)
        (1.0, 2.333)
    """
    counts = _counts(labels)
    apart = counts - counts.mean()
    spread = (apart**2).mean()
    return float((apart**4).mean() / spread**2) if spread > 0 else 1.0


def curve_slopes(
    losses: Sequence[float] | Float[ndarray, " points"], shares: Sequence[float] = SHARES
) -> Float[ndarray, " slopes"]:
    """The slope of a learning curve at shares of the training: loss by share of the training.

    The difference between the points before and behind, divided by their distance. A curve that has
    reached its plateau has a slope near 0.

    Arguments:
        losses: training losses at equally spaced steps, the last one at the end.
        shares: where; 0 is before the first step, 1 the end.

    Raises:
        UsageError: for fewer than ten losses, one that is not finite, or a share outside 0 to 1.

    Example:
        >>> curve_slopes([1 - 0.05 * i for i in range(1, 21)]).round(6).tolist()
        [-1.0, -1.0, -1.0, -1.0, -1.0]
    """
    curve = _curve(losses)
    if not all(0 < share < 1 for share in shares):
        raise UsageError(f"Slopes are taken at shares between 0 and 1, not at {list(shares)}.")
    places = np.array([round(share * len(curve)) - 1 for share in shares])
    places = places.clip(1, len(curve) - 2)
    return (curve[places + 1] - curve[places - 1]) * len(curve) / 2


def log_fit(losses: Sequence[float] | Float[ndarray, " points"]) -> tuple[float, float]:
    """The slope b and the offset s of the least-squares fit L(i) ≈ a + b log(i + s), i = 1, 2, ….

    Given s, a and b are a linear regression; s is the best of a grid from 0.01 to 100 points.

    Raises:
        UsageError: as for `curve_slopes`.

    Example:
        >>> slope, offset = log_fit([2 - 0.5 * np.log(i + 1.0) for i in range(1, 21)])
        >>> round(slope, 6), round(offset, 6)
        (-0.5, 1.0)
    """
    curve = _curve(losses)
    offsets = np.logspace(-2, 2, 81)
    logs = np.log(np.arange(1, len(curve) + 1) + offsets[:, None])
    across = logs - logs.mean(1, keepdims=True)
    slopes = across @ (curve - curve.mean()) / (across**2).sum(1)
    left = curve - curve.mean() - slopes[:, None] * across
    best = int((left**2).sum(1).argmin())
    return float(slopes[best]), float(offsets[best])


def task_features(
    labels: Mapping[str, Labels],
    curves: Mapping[str, Sequence[float] | Float[ndarray, " points"]],
) -> pd.DataFrame:
    """The features of each task, a row a task.

    Arguments:
        labels: each task's training labels, classes; numbers are to be cut into classes first.
        curves: each task's single-task training losses at equally spaced steps.

    Raises:
        UsageError: for a task without a curve or without labels, and as for the features.

    Example:
        >>> falling = [1 / i for i in range(1, 21)]
        >>> found = task_features({"kind": [0, 1, 1]}, {"kind": falling})
        >>> list(found.columns)[:4], len(found.columns)
        (['log labels', 'entropy', 'kurtosis', 'slope at 10 %'], 10)
    """
    if set(labels) != set(curves):
        raise UsageError(
            f"Labels and learning curves belong to the same tasks: {sorted(labels)} and "
            f"{sorted(curves)} differ."
        )
    rows = {}
    for name, own in labels.items():
        values = np.asarray(own)
        fitted = dict(zip(("fit slope", "fit offset"), log_fit(curves[name]), strict=True))
        slopes = {
            f"slope at {share:.0%}".replace("%", " %"): slope
            for share, slope in zip(SHARES, curve_slopes(curves[name]), strict=True)
        }
        rows[name] = {
            "log labels": float(np.log(values.size)),
            "entropy": label_entropy(values),
            "kurtosis": count_kurtosis(values),
            **slopes,
            **(fitted | {"fit offset": float(np.log(fitted["fit offset"]))}),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def pair_features(
    tasks: pd.DataFrame, pairs: Mapping[str, Float[ndarray, "tasks tasks"]] | None = None
) -> pd.DataFrame:
    """The features of all ordered pairs: those of the main task, of the auxiliary, of the pair.

    Arguments:
        tasks: as from `task_features`, in the order of the matrices.
        pairs: matrices by the feature's name, the main task's row and the auxiliary's column.

    Raises:
        UsageError: for a matrix of another size.

    Example:
        >>> tasks = pd.DataFrame({"entropy": [0.7, 1.4]}, index=["a", "b"])
        >>> pair_features(tasks, {"cosine": np.array([[1, 0.2], [0.2, 1]])}).loc["a", "b"].to_dict()
        {'main entropy': 0.7, 'auxiliary entropy': 1.4, 'cosine': 0.2}
    """
    names = list(tasks.index)
    for what, matrix in (pairs or {}).items():
        if np.shape(matrix) != (len(names), len(names)):
            raise UsageError(
                f"The feature {what!r} of pairs has the shape {np.shape(matrix)}: there are "
                f"{len(names)} tasks."
            )
    ordered = [(a, b) for a in range(len(names)) for b in range(len(names)) if a != b]
    mains, auxiliaries = (list(side) for side in zip(*ordered, strict=True))
    index = pd.MultiIndex.from_tuples([(names[a], names[b]) for a, b in ordered], names=PAIR)
    values = tasks.to_numpy(dtype=float)
    columns = {f"main {name}": values[mains, at] for at, name in enumerate(tasks.columns)}
    columns |= {f"auxiliary {name}": values[auxiliaries, at] for at, name in enumerate(tasks)}
    columns |= {what: np.asarray(own)[mains, auxiliaries] for what, own in (pairs or {}).items()}
    return pd.DataFrame(columns, index=index)


def _counts(labels: Labels) -> Float[ndarray, " classes"]:
    values = np.asarray(labels)
    if not values.size:
        raise UsageError("There are no labels: entropy and kurtosis need at least one.")
    if values.dtype.kind not in "iub" and not (values == np.round(values)).all():
        raise UsageError(
            "The labels are numbers, not classes: cut them into classes first, such as quartiles."
        )
    return np.unique(values, return_counts=True)[1].astype(float)


def _curve(losses: Sequence[float] | Float[ndarray, " points"]) -> Float[ndarray, " points"]:
    curve = np.asarray(losses, dtype=float)
    if curve.ndim != 1 or curve.size < 10 or not np.isfinite(curve).all():
        raise UsageError(
            f"A learning curve has at least ten finite losses in one row, not {curve.shape}: "
            "evaluate more often, or cut off what diverged."
        )
    return curve
