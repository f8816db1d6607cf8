"""Section 6.9's worlds: eight constructed ones, each the home of a method, and four real ones."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial

import torch

from mtlbook.book.data.overlaid_digits import overlaid_digits
from mtlbook.book.data.worlds.half_private import half_private
from mtlbook.book.data.worlds.layered_groups import layered_groups
from mtlbook.book.data.worlds.low_rank_mixtures import low_rank_mixtures
from mtlbook.book.data.worlds.mixed_relation import input_dependent
from mtlbook.book.data.worlds.signed_clusters import signed_clusters
from mtlbook.book.data.worlds.unequal_labels import unequal_labels
from mtlbook.book.data.worlds.unrelated_tasks import unrelated_tasks
from mtlbook.data import adult, embedded, mulan
from mtlbook.data.constructed import related_tasks
from mtlbook.data.multi_task_data import Consecutive, Holdout, MultiTaskData
from mtlbook.data.scaling import scaled
from mtlbook.randomness import generator


@dataclass(frozen=True, kw_only=True)
class World:
    """A data set of the league.

    Attributes:
        name: in tables and figures.
        data: from a seed to its data, with flat inputs.
        split: how its rows are divided.
        homes: the contestants for which it was constructed.
        real: whether it was not constructed.
        batch: rows a step, or with `balanced` rows a step of each task.
        balanced: a batch of each task's own rows, for several data sets and unequal labels.
        same_rows: whether some rows tell all tasks, as affinities between tasks need it.
    """

    name: str
    data: Callable[[int], MultiTaskData]
    split: Holdout
    homes: tuple[str, ...] = ()
    real: bool = False
    batch: int = 32
    balanced: bool = False
    same_rows: bool = True


def _same_features() -> World:
    split = Holdout(train=80, validation=100, test=500)

    def data(seed: int) -> MultiTaskData:
        return related_tasks(seed, tasks=6, rows=680, noise=0.3, same_inputs=True).data

    return World(name="same features", data=data, split=split, homes=("hard sharing",))


def _unrelated() -> World:
    split = Holdout(train=150, validation=100, test=500)
    return World(
        name="unrelated",
        data=lambda seed: unrelated_tasks(seed, rows=750).data,
        split=split,
        homes=("single-task", "wide single-task"),
    )


def _clusters() -> World:
    split = Holdout(train=24, validation=40, test=200)
    return World(
        name="± clusters",
        data=lambda seed: signed_clusters(seed, rows=264).data,
        split=split,
        homes=("relationship network",),
        batch=24,
        balanced=True,
        same_rows=False,
    )


def _groups() -> World:
    split = Holdout(train=150, validation=100, test=500)
    return World(
        name="layered groups",
        data=lambda seed: layered_groups(seed, rows=750, tasks=6).data,
        split=split,
        homes=("tree", "best split"),
    )


def _half_private() -> World:
    split = Holdout(train=100, validation=100, test=500)
    return World(
        name="half private",
        data=lambda seed: half_private(seed, rows=700).data,
        split=split,
        homes=("sluice", "PLE"),
    )


def _low_rank() -> World:
    # Each task has 40 training rows of its own.
    split = Consecutive(train=240, validation=100, test=500)
    return World(
        name="low-rank mixtures",
        data=lambda seed: low_rank_mixtures(seed, rows=840, tasks=6, apart=240).data,
        split=split,
        homes=("factorisation",),
        batch=16,
        balanced=True,
        same_rows=False,
    )


def _input_dependent() -> World:
    split = Holdout(train=500, validation=100, test=500)
    return World(
        name="input-dependent",
        data=lambda seed: input_dependent(seed, rows=1100).data,
        split=split,
        homes=("MMoE", "PLE"),
    )


def _unequal_labels() -> World:
    split = Consecutive(train=300, validation=100, test=500)
    return World(
        name="10 : 1 labels",
        data=lambda seed: unequal_labels(seed, rows=300, held_out=600).data,
        split=split,
        homes=("cross-stitch",),
        batch=16,
        balanced=True,
    )


def _domains() -> World:
    split = Holdout(train=60, validation=60, test=300)
    domains = embedded.DIGIT_DOMAINS[:4]
    return World(
        name="digit domains",
        data=lambda seed: embedded.digit_domains(*domains, rows=420, seed=seed),
        split=split,
        real=True,
        batch=16,
        balanced=True,
        same_rows=False,
    )


def _overlaid() -> World:
    split = Consecutive(train=300, validation=100, test=600)

    def data(seed: int) -> MultiTaskData:
        drawn = overlaid_digits(seed, split)
        return replace(drawn, inputs=drawn.inputs.flatten(1))

    return World(name="overlaid digits", data=data, split=split, real=True)


def _multi_target() -> World:
    split = Holdout(train=180, validation=60, test=119)
    table = cache(partial(mulan.load, "jura"))
    return World(
        name="Jura metals",
        data=lambda seed: scaled(table(), split, seed),
        split=split,
        real=True,
    )


def _census() -> World:
    split = Holdout(train=400, validation=150, test=600)
    people = cache(partial(adult.load, *adult.TASKS))

    def data(seed: int) -> MultiTaskData:
        every = people()
        drawn = torch.randperm(every.rows, generator=generator(seed, "league", "people"))
        return scaled(every.subset(drawn[:1150]), split, seed, columns=adult.MEASURED)

    return World(name="adult census", data=data, split=split, real=True)


WORLDS: dict[str, Callable[[], World]] = {
    "same features": _same_features,
    "unrelated": _unrelated,
    "± clusters": _clusters,
    "layered groups": _groups,
    "half private": _half_private,
    "low-rank mixtures": _low_rank,
    "input-dependent": _input_dependent,
    "10 : 1 labels": _unequal_labels,
    "digit domains": _domains,
    "overlaid digits": _overlaid,
    "Jura metals": _multi_target,
    "adult census": _census,
}
