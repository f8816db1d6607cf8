r"""Home of a related task (section 7.1): an auxiliary task whose features turn by a dial."""

from collections.abc import Mapping, Sequence
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.data.synthetic import (
    GAIN,
    SyntheticDataset,
    check_counts,
    check_noise,
    raw_signal,
    reference_inputs,
    unit_variance,
    with_noise,
)
from mtlbook.errors import UsageError
from mtlbook.randomness import generator, standard_normal
from mtlbook.tasks import Task

INPUTS = 20
FEATURES = 3


def related_rows(
    seed: int,
    *,
    rows: int,
    tasks: Sequence[str] = ("main", "related"),
    cosine: float | Mapping[str, float] = 1.0,
    noise: float | Mapping[str, float] = 1.0,
    linear: bool = True,
    same_rows: bool = False,
) -> SyntheticDataset:
    r"""A main task and auxiliary ones, each a regression on rows of its own.

    Linear: $y = x^\top w + \sigma\varepsilon$ with $x \sim N(0, I_{20})$ and a unit vector $w$, for
    the auxiliary task $w' = \rho\, w + \sqrt{1 - \rho^2}\, u$ with a unit vector $u \perp w$: what
    `PooledRows` is about. Otherwise $y = \tanh(2\, x^\top A)\, h + \sigma\varepsilon$, scaled to
    signals of variance 1, with three orthonormal features $A$ and, for the auxiliary task, those of
    $A' = \rho\, A + \sqrt{1 - \rho^2}\, U$, $U \perp A$; all have *heads* $h$ of their own.

    Arguments:
        seed: of everything drawn.
        rows: of each task; the first rows are the same for any number.
        tasks: their names, the main task first; a further one leaves the earlier ones as they were.
        cosine: the dial ρ, of all auxiliary tasks or of each; 0 is the negative control.
        noise: σ, of all tasks or of each; signals have variance 1.
        linear: linear tasks, or features behind a tanh.
        same_rows: the auxiliary tasks' labels lie on the main task's rows, with noise of their own.

    Raises:
        UsageError: for a cosine that is none, and dials of other tasks than these.

    Example:
        >>> made = related_rows(0, rows=5, cosine=0.7)
        >>> made.data.inputs.shape, [int(own.sum()) for own in made.data.labelled.values()]
        (torch.Size([10, 20]), [5, 5])
        >>> w, related = made.heads["main"], made.heads["related"]
        >>> round(float(w @ related), 6)
        0.7
    """
    check_counts(rows=rows)
    main, *others = tasks
    cosines = {main: 1.0} | _each("cosine", cosine, others)
    noises = _each("noise", noise, tasks)
    for name in tasks:
        check_noise(noises[name])
        if not -1 <= cosines[name] <= 1:
            raise UsageError(f"A cosine lies between -1 and 1, not at {cosines[name]} ({name!r}).")
    axes = 1 if linear else FEATURES
    base = _orthonormal(seed, main, axes)
    sets: dict[str, tuple[Tensor, Tensor]] = {}
    noiseless, features, heads = {}, {}, {}
    for name in tasks:
        rho = cosines[name]
        turned = base
        if name != main:
            turned = rho * base + sqrt(1 - rho**2) * _orthonormal(seed, name, axes, away_from=base)
        head = standard_normal(generator(seed, "related rows", "head", name), FEATURES)
        owner = main if same_rows else name
        x = standard_normal(generator(seed, "related rows", "inputs", owner), rows, INPUTS)
        if linear:
            signal, heads[name] = x @ turned, turned[:, 0]
        else:
            reference = reference_inputs(seed, INPUTS, "related rows")
            signal = unit_variance(
                lambda own, a=GAIN * turned, h=head: raw_signal(own, a, h), x, reference
            )
            features[name], heads[name] = turned, head
        noiseless[name] = signal
        source = generator(seed, "related rows", "noise", name)
        sets[name] = (x, with_noise(signal, noises[name], source))
    regressions = {name: Task.regression(name) for name in tasks}
    if same_rows:
        x = sets[main][0]
        targets = {name: y for name, (_, y) in sets.items()}
        data = MultiTaskData.multi_label(list(regressions.values()), x, targets)
    else:
        data = MultiTaskData.several({regressions[name]: own for name, own in sets.items()})
    least = {name: noises[name] ** 2 for name in tasks}
    return SyntheticDataset(data, noiseless, features, heads, least_loss=least)


def _each(what: str, given: float | Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """A dial of each task, from one number or from a number for each."""
    if not isinstance(given, Mapping):
        return dict.fromkeys(names, float(given))
    if set(given) != set(names):
        raise UsageError(f"{what} is one number, or one for each of {list(names)}: {dict(given)}.")
    return {name: float(given[name]) for name in names}


def _orthonormal(
    seed: int, owner: str, axes: int, away_from: Float[Tensor, "inputs axes"] | None = None
) -> Float[Tensor, "inputs axes"]:
    """Random directions, orthogonal to each other and to others."""
    drawn = standard_normal(generator(seed, "related rows", "directions", owner), INPUTS, axes)
    others = drawn[:, :0] if away_from is None else away_from
    basis = torch.linalg.qr(torch.cat([others, drawn], dim=1)).Q
    return basis[:, others.shape[1] :]
