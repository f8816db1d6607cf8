"""Training for a page: its seeds, its device, and equal trials for every contestant."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import partial
from inspect import signature
from itertools import product
from typing import Any

import torch
from torch import nn

from mtlbook.book.page import Page
from mtlbook.book.progress import each
from mtlbook.errors import UsageError
from mtlbook.training.fit import Data, fit_trials
from mtlbook.training.results import Fit
from mtlbook.training.selection import Selected, select
from mtlbook.training.settings import Optimiser, Settings, Trial

Build = Callable[..., nn.Module]
Trials = Mapping[str, Mapping[str, Any]]


def train(
    page: Page, build: Build, data: Data, *, seeds: Iterable[int] | None = None, **settings: Any
) -> Fit:
    """Train one network for each seed of a page, on the page's device.

    Arguments:
        page: whose seeds and device are used.
        build: makes a network from a seed's data (with the tasks that are trained) and the seed.
        data: one data set, or a function from a seed to its data.
        seeds: others than the page's.
        **settings: those of `Settings`, and keyword arguments of `build`.

    Raises:
        UsageError: for a setting that neither the training nor `build` knows.
    """
    return search(page, build, data, {"": {}}, seeds=seeds, **settings)[""]


def search(
    page: Page,
    build: Build,
    data: Data,
    trials: Trials,
    *,
    seeds: Iterable[int] | None = None,
    **settings: Any,
) -> dict[str, Fit]:
    """Train the trials of a search, those of one network at once.

    Arguments:
        page: as for `train`.
        build: as for `train`.
        data: as for `train`.
        seeds: as for `train`.
        trials: by name, what each trial changes: settings of the training, or keyword arguments of
            `build`. Trials that differ in optimiser, learning rate or combiner alone train at once.
        **settings: what the trials have in common.

    Raises:
        UsageError: as for `train`.
    """
    common: dict[str, Any] = {
        "device": page.device,
        "progress_label": f"section {page.section}",
        "stopping": "sum",
    }
    groups: list[tuple[dict[str, Any], dict[str, Trial]]] = []
    for name, changed in trials.items():
        rest = common | settings | dict(changed)
        trial = Trial(_optimiser(rest), rest.pop("combiner", None))
        if rest.get("after_step") is not None:
            # It is told the learning rate, which is the trial's own.
            rest["optimiser"] = trial.optimiser
            trial = Trial(combiner=trial.combiner)
        own = next((of_group for shared, of_group in groups if shared == rest), None)
        if own is None:
            groups.append((rest, own := {}))
        own[name] = trial
    found: dict[str, Fit] = {}
    what = f"section {page.section}: search"
    # Of a single group its own training says how far it is.
    for shared, of_group in each(groups, what, counted=False) if len(groups) > 1 else groups:
        dials, of_training = _sorted_out(build, shared)
        found |= fit_trials(
            partial(build, **dials) if dials else build,
            data,
            seeds=page.seeds if seeds is None else seeds,
            trials=of_group,
            settings=Settings(**of_training),
        )
    return {name: found[name] for name in trials}


def tuned(
    page: Page,
    build: Build,
    data: Data,
    trials: Trials,
    *,
    each_task: bool | None = None,
    seeds: Iterable[int] | None = None,
    **settings: Any,
) -> Selected:
    """A contestant: its trials, and for each seed the one with the least validation loss.

    Arguments:
        page: as for `search`.
        build: as for `search`.
        data: as for `search`.
        trials: as for `search`.
        each_task: whether each task chooses a trial of its own, as separate networks may; by
            default where stopping is `"each"` or one task's.
        seeds: as for `search`.
        **settings: as for `search`.
    """
    if each_task is None:
        stopping = settings.get("stopping")
        each_task = isinstance(stopping, str) and stopping not in ("sum", "relative")
    return select(search(page, build, data, trials, seeds=seeds, **settings), each_task=each_task)


def adam(rate: float, penalty: float = 0.0) -> Optimiser:
    """Adam; its weight decay is the gradient of an L2 penalty."""
    return partial(torch.optim.Adam, lr=rate, weight_decay=penalty, fused=True)


def adamw(rate: float, decay: float = 0.0) -> Optimiser:
    """AdamW (Loshchilov and Hutter, 2019), whose weight decay is decoupled from the gradient."""
    return partial(torch.optim.AdamW, lr=rate, weight_decay=decay, fused=True)


def adamw_trials(rates: Iterable[float], decays: Iterable[float]) -> dict[str, dict[str, Any]]:
    """Trials of AdamW with each learning rate and each weight decay.

    Example:
        >>> list(adamw_trials(rates=[0.03, 0.1], decays=[1.0]))
        ['rate 0.03, decay 1', 'rate 0.1, decay 1']
    """
    return {
        f"rate {rate:g}, decay {decay:g}": {"optimiser": adamw(rate, decay)}
        for rate, decay in product(rates, decays)
    }


def units(*widths: int) -> dict[str, dict[str, Any]]:
    """Trials of hidden layers of each width.

    Example:
        >>> units(8, 32)
        {'8 units': {'width': 8}, '32 units': {'width': 32}}
    """
    return {f"{width} units": {"width": width} for width in widths}


def crossed(*axes: Trials) -> dict[str, dict[str, Any]]:
    """The full grid of several sets of trials: every combination, names joined by commas.

    Example:
        >>> crossed(units(8, 32), {"fast": {"learning_rate": 0.1}})["8 units, fast"]
        {'width': 8, 'learning_rate': 0.1}
    """
    grid: dict[str, dict[str, Any]] = {}
    for combination in product(*(axis.items() for axis in axes)):
        changed: dict[str, Any] = {}
        for _, own in combination:
            changed |= own
        grid[", ".join(name for name, _ in combination)] = changed
    return grid


def _optimiser(settings: dict[str, Any]) -> Optimiser | None:
    """Take optimiser and learning rate out of the settings of a trial."""
    optimiser, rate = settings.pop("optimiser", None), settings.pop("learning_rate", None)
    if optimiser is not None and rate is not None:
        raise UsageError("An optimiser has its own learning rate: give one of the two.")
    return adam(rate) if rate is not None else optimiser


def _sorted_out(build: Build, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The dials of the network and the settings of the training."""
    known = {field.name for field in fields(Settings)}
    dials = list(signature(build).parameters)[2:]
    unknown = sorted(set(given) - known - set(dials))
    if unknown:
        raise UsageError(
            f"Neither the training nor the network has a setting {unknown[0]!r}: the training's "
            f"are {', '.join(sorted(known))}; the network's are {', '.join(dials) or 'none'}."
        )
    return (
        {name: value for name, value in given.items() if name in dials},
        {name: value for name, value in given.items() if name not in dials},
    )
