r"""Section 6.9: the league, thirteen ways to share in twelve worlds.

Eight worlds are constructed, each the home of a method, and four are not: four domains of
handwritten digits (ten classes each), two overlaid digits, three metals in the soil of the Swiss
Jura (Mulan's multi-target set `jura`), and three questions about people of the adult census
(income, never married, college; 400 training rows, and without the columns that leak). The rules
are those of `mtlbook.book.experiments.league`, where each world and each contestant is one entry:
four trials each, 120 steps each, chosen on validation data; played again with equal floating-point
operations in the place of equal steps.

Rows hold the test loss of each task under each seed's chosen trial (metric `loss`); the mean over
tasks of the same relative to single-task networks' with equal operations (`loss at equal FLOPs`);
and, with the first seed alone since it is one number for all, the mean over seeds and tasks of the
relative validation loss (`validation`) and the costs: trainable parameters (`parameters`), and
floating-point operations of one prediction (`inference`) and of all trials together (`training`).

All is computed in float32: other processors may give other third digits. It takes about 15 minutes
of one core. Each world is written to the build folder when it is played, so that a study that was
interrupted goes on where it stopped. Fixed after pilots on seeds from 7000.
"""

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from mtlbook.book.experiments import league
from mtlbook.book.experiments.league import CONTESTANTS, STEPS, Entry, Match
from mtlbook.book.experiments.league_worlds import WORLDS
from mtlbook.book.files import repository, write_atomically

SECTION = "6.9"
DATA = ("mulan_mtr", "adult")
SEEDS = 16

DIGITS = 4
BASELINE = "single-task"


def run(seeds: Sequence[int], device: str, steps: int = STEPS) -> pd.DataFrame:
    """Losses and costs: a row a seed, world, method, task and metric."""
    parts = [played(world, seeds, device, steps) for world in WORLDS]
    return pd.concat(parts, ignore_index=True)


def played(world: str, seeds: Sequence[int], device: str, steps: int = STEPS) -> pd.DataFrame:
    """One world's results, from the build folder where they have been computed before."""
    folder = kept_in()
    sources = inspect.getsource(league), inspect.getsource(WORLDS[world])
    what = repr((sources, world, list(seeds), steps))
    name = hashlib.sha256(what.encode()).hexdigest()[:16]
    path = folder / f"{name}.json" if folder else None
    if path is not None and path.is_file():
        return pd.DataFrame(json.loads(path.read_text(encoding="utf-8")))
    rows = results(world, seeds, device, steps)
    if path is not None:
        write_atomically(path, json.dumps(rows, ensure_ascii=False).encode())
    return pd.DataFrame(rows)


def kept_in() -> Path | None:
    """The folder of worlds that have been played; None outside a clone of the repository."""
    root = repository(Path.cwd())
    return root / "build" / "league" if root else None


def results(world: str, seeds: Sequence[int], device: str, steps: int) -> list[dict[str, Any]]:
    """Play all contestants in a world, by both budgets."""
    match = Match(
        world=WORLDS[world](),
        seeds=tuple(seeds),
        device=device,
        steps=steps,
        dtype=torch.float32,
        label="section 6.9",
    )
    first = {name: own.enter(match) for name, own in CONTESTANTS.items()}
    rows = [row for name, own in first.items() for row in measured(match, name, own, first)]
    again = match.with_equal_operations()
    base = first[BASELINE].losses().mean(0)
    for name, own in CONTESTANTS.items():
        entry = first[name] if name == BASELINE else own.enter(again)
        for seed, value in zip(seeds, (entry.losses() / base).mean(1), strict=True):
            rows.append(_row(seed, world, name, "all", "loss at equal FLOPs", value))
    return rows


def measured(
    match: Match, method: str, entry: Entry, every: Mapping[str, Entry]
) -> list[dict[str, Any]]:
    """A contestant's losses, validation loss and costs."""
    world, seeds = match.world.name, match.seeds
    rows = [
        _row(seed, world, method, task.name, "loss", value)
        for task, values in zip(match.tasks, entry.losses().T, strict=True)
        for seed, value in zip(seeds, values, strict=True)
    ]
    relative = entry.losses("validation") / every[BASELINE].losses("validation").mean(0)
    numbers = {
        "validation": relative.mean(),
        "parameters": entry.parameters,
        "inference": entry.inference,
        "training": entry.training,
    }
    return rows + [
        _row(seeds[0], world, method, "all", metric, value) for metric, value in numbers.items()
    ]


def _row(
    seed: int, world: str, method: str, task: str, metric: str, value: float | np.floating[Any]
) -> dict[str, Any]:
    rounded = float(f"{value:.{DIGITS}g}")
    return {
        "seed": int(seed),
        "world": world,
        "method": method,
        "task": task,
        "metric": metric,
        "value": rounded,
    }
