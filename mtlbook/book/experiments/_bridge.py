"""The training floor's coming `fit_trials`, by the one that stands: goes when the new one lands."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.training import fit as standing
from mtlbook.training.sampling import Balanced, RoundRobin
from mtlbook.training.settings import Settings, Trial

Data = MultiTaskData | Callable[[int], MultiTaskData]


def fit_trials(
    build: Callable[[MultiTaskData, int], nn.Module],
    data: Data,
    *,
    seeds: Iterable[int],
    trials: Mapping[str, Trial],
    settings: Settings,
) -> dict[str, standing.Fit]:
    """Every trial for every seed."""
    seeds = tuple(seeds)
    example = data if isinstance(data, MultiTaskData) else data(seeds[0])
    if settings.tasks is not None:
        chosen = tuple(task for task in example.tasks if task.name in settings.tasks)
        example = replace(example, tasks=chosen, targets=dict(example.targets))
    common: dict[str, Any] = _translated(settings) | {"seeds": seeds}
    make = partial(build, example, seeds[0])
    default = partial(torch.optim.Adam, lr=settings.learning_rate or 1e-3, fused=True)
    optimisers = {
        name: trial.optimiser or settings.optimiser or default for name, trial in trials.items()
    }
    combiners = [trial.combiner or settings.combiner for trial in trials.values()]
    alike = all(combiner is combiners[0] for combiner in combiners)
    if settings.after_step is None and settings.vectorise and alike:
        common["weighting"] = combiners[0]
        return standing.fit_trials(make, data, optimisers=optimisers, **common)
    return {
        name: standing.fit(
            make,
            data,
            optimiser=optimisers[name],
            weighting=combiner,
            proximal=_proximal(settings.after_step),
            vectorise=settings.vectorise,
            **common,
        )
        for name, combiner in zip(trials, combiners, strict=True)
    }


def _translated(settings: Settings) -> dict[str, Any]:
    kind = type(settings.sampler)
    sampling = {Balanced: "balanced", RoundRobin: "alternating"}.get(kind, "mixed")
    steps, schedule, regulariser = settings.steps, settings.schedule, settings.regulariser
    return {
        "tasks": settings.tasks,
        "split": settings.split,
        "steps": steps,
        "batch_size": settings.sampler.batch_size,
        "sampling": sampling,
        "schedule": schedule and (lambda step: schedule(step / steps)),
        "regulariser": regulariser and (lambda model: regulariser(model, None)),
        "initialise": _initialise(settings.start),
        "stopping": "joint" if settings.stopping == "sum" else settings.stopping,
        "patience": settings.patience,
        "every": settings.validate_every,
        "scored": settings.evaluate_on,
        "device": settings.device,
        "dtype": settings.dtype,
        "label": settings.progress_label,
    }


def _initialise(start: Any) -> Callable[[nn.Module, int], None] | None:
    if not isinstance(start, standing.Fit):
        return start

    def copy(model: nn.Module, seed: int) -> None:
        model.load_state_dict(start.model(seed).state_dict())

    return copy


def _proximal(after_step: Callable[[nn.Module, Any], Any] | None) -> Any:
    if after_step is None:
        return None
    return lambda model, rate: after_step(model, SimpleNamespace(learning_rate=rate))
