r"""Home of the future as a task (section 7.7): severity now, measurements later, an outcome.

Three worlds: `severity`, whose laboratory values and outcome share one hidden number; `course`, a
chain of linear-Gaussian steps from the present to the outcome; and `horizons`, one severity that is
to be foretold over shorter and longer times.
"""

from collections.abc import Sequence
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.data.synthetic import (
    SyntheticDataset,
    check_counts,
    check_noise,
    check_shares,
    regressions,
    with_noise,
)
from mtlbook.randomness import generator, standard_normal
from mtlbook.tasks import Task

INPUTS = 20
SLOPE = 2.0  # of the outcome's log-odds, in units of the severity's standard deviation


def severity(
    seed: int,
    *,
    rows: int,
    tasks: Sequence[str] = ("outcome", "labs"),
    labs: int = 6,
    common: float = 1.0,
    noise: float = 1.0,
) -> SyntheticDataset:
    r"""A binary outcome, and laboratory values that are known later.

    Severity $h = w^\top x$ with $|w| = 1$; the outcome is Bernoulli$(\mathrm{sigmoid}(2 h))$. The
    laboratory values are $\pm (\tilde h + \sigma \varepsilon_k) / \sqrt{1 + \sigma^2}$ with
    $\tilde h = \sqrt{\rho}\, h + \sqrt{1 - \rho}\, h'$ and $h'$ another severity, of a direction
    orthogonal to $w$. Given $h$ they say nothing more about the outcome.

    Arguments:
        seed: of everything drawn.
        rows: examples with all labels; the first rows are the same for any number.
        tasks: the names of the outcome and of the laboratory values.
        labs: how many laboratory values.
        common: $\rho$, the dial; 0 is the negative control, values of another severity.
        noise: $\sigma$, of each laboratory value.

    Example:
        >>> made = severity(0, rows=5)
        >>> [tuple(made.data.targets[name].shape) for name in ("outcome", "labs")]
        [(5, 1), (5, 6)]
    """
    check_counts(rows=rows, labs=labs)
    check_shares(common=common)
    check_noise(noise)
    outcome, measured = tasks
    x = standard_normal(generator(seed, "severity", "inputs"), rows, INPUTS)
    directions = _orthonormal(seed, INPUTS, 2, "severity")
    h, other = (x @ directions).T
    chance = torch.rand(rows, generator=generator(seed, "severity", "outcome"), dtype=x.dtype)
    label = (chance < torch.sigmoid(SLOPE * h)).double()[:, None]
    signs = torch.ones(labs, dtype=x.dtype)
    signs[1::2] = -1
    shown = (sqrt(common) * h + sqrt(1 - common) * other)[:, None] * signs
    values = with_noise(shown, noise, generator(seed, "severity", "labs")) / sqrt(1 + noise**2)
    data = MultiTaskData.multi_label(
        [Task.binary(outcome), Task.regression(measured, outputs=labs)],
        x,
        {outcome: label, measured: values},
    )
    return SyntheticDataset(
        data, heads={outcome: directions[:, 0]}, least_loss={outcome: least_log_loss()}
    )


def least_log_loss(slope: float = SLOPE) -> float:
    """The mean entropy of the outcome, in nats, where severity is known.

    Example:
        >>> round(least_log_loss(0.0), 3)  # log 2
        0.693
    """
    h = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    weights = torch.exp(-h.square() / 2)
    p = torch.sigmoid(slope * h)
    entropy = -torch.special.xlogy(p, p) - torch.special.xlogy(1 - p, 1 - p)
    return float((weights * entropy).sum() / weights.sum())


def course(
    seed: int,
    *,
    rows: int,
    times: int = 2,
    measurements: int = 5,
    direct: float = 0.0,
    wander: float = 0.3,
    noise: float = 1.0,
) -> SyntheticDataset:
    r"""A chain of linear-Gaussian steps $x_1 \to x_2 \to \dots \to x_T \to y$, all of variance 1.

    $x_{t+1} = \sqrt{1 - v}\, x_t Q_t + \sqrt{v}\, \varepsilon$ with orthonormal columns $Q_t$, and
    $y = \sqrt{1 - d}\, x_T b + \sqrt{d}\, x_1 b' + \sigma \varepsilon$ with $|b| = |b'| = 1$.

    Arguments:
        seed: of everything drawn.
        rows: examples; the first rows are the same for any number.
        times: how often something is measured before the outcome: the tasks `time_2`, `time_3` ….
        measurements: at each of these times.
        direct: $d$, the dial: the share of the outcome that goes past the measurements. At 1 they
            say nothing about it: the negative control.
        wander: $v$, the share of new noise in each step.
        noise: $\sigma$, of the outcome `y`.

    Example:
        >>> [task.name for task in course(0, rows=5).data.tasks]
        ['y', 'time_2', 'time_3']
    """
    check_counts(rows=rows, times=times, measurements=measurements)
    check_shares(direct=direct, wander=wander)
    check_noise(noise)
    now = standard_normal(generator(seed, "course", "inputs"), rows, INPUTS)
    reached, measured = now, {}
    theta = torch.eye(INPUTS, dtype=now.dtype)
    for time in range(2, times + 2):
        source = generator(seed, "course", "step", time)
        turn = sqrt(1 - wander) * _orthonormal(seed, reached.shape[1], measurements, "turn", time)
        reached = with_noise(reached @ turn, sqrt(wander), source)
        theta = theta @ turn
        measured[f"time_{time}"] = reached
    b = _orthonormal(seed, measurements, 1, "outcome")
    past = _orthonormal(seed, INPUTS, 1, "direct")
    signal = sqrt(1 - direct) * reached @ b + sqrt(direct) * now @ past
    y = with_noise(signal, noise, generator(seed, "course", "outcome noise"))
    tasks = [Task.regression("y")]
    tasks += [Task.regression(time, outputs=measurements) for time in measured]
    data = MultiTaskData.multi_label(tasks, now, {"y": y} | measured)
    coefficients = (sqrt(1 - direct) * theta @ b + sqrt(direct) * past)[:, 0]
    # What the chain adds on its way: of the variance 1 of x_T b all but what came from x_1.
    added = (1 - direct) * (1 - (1 - wander) ** times)
    return SyntheticDataset(data, heads={"y": coefficients}, least_loss={"y": added + noise**2})


def horizons(
    seed: int,
    *,
    rows: int,
    steps: Sequence[int] = (1, 2, 4, 8),
    common: bool = True,
    persistence: float = 0.9,
) -> SyntheticDataset:
    r"""One severity, to be foretold over shorter and longer horizons: a regression for each.

    $h_0 = w^\top x$, $h_t = a h_{t-1} + \sqrt{1 - a^2}\, \varepsilon_t$; the task `in_t` is $h_t$,
    of which $a^{2t}$ of the variance can be foretold.

    Arguments:
        seed: of everything drawn.
        rows: examples; the first rows are the same for any number.
        steps: the horizons $t$.
        common: whether all horizons are those of one severity. False is the negative control: each
            has a direction $w$ and a course of its own, and is as hard as before.
        persistence: $a$.

    Example:
        >>> made = horizons(0, rows=5, steps=(1, 2))
        >>> {name: round(loss, 3) for name, loss in made.least_loss.items()}
        {'in_1': 0.19, 'in_2': 0.344}
    """
    check_counts(rows=rows, horizon=min(steps))
    check_shares(persistence=persistence)
    x = standard_normal(generator(seed, "horizons", "inputs"), rows, INPUTS)
    own = _orthonormal(seed, INPUTS, len(steps), "horizons")
    found, heads, least = {}, {}, {}
    for number, step in enumerate(steps):
        direction = own[:, 0 if common else number]
        h = x @ direction
        for time in range(1, step + 1):
            course_of = 0 if common else number
            source = generator(seed, "horizons", "course", course_of, time)
            h = persistence * h + sqrt(1 - persistence**2) * standard_normal(source, rows)
        name = f"in_{step}"
        found[name], heads[name] = h[:, None], direction
        least[name] = 1 - persistence ** (2 * step)
    return SyntheticDataset(regressions(x, found), heads=heads, least_loss=least)


def _orthonormal(
    seed: int, rows: int, columns: int, *purpose: str | int
) -> Float[Tensor, "rows columns"]:
    """Random orthonormal columns."""
    drawn = standard_normal(generator(seed, "directions", *purpose), rows, columns)
    return torch.linalg.qr(drawn)[0]
