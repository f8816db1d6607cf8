"""Section 7.9: every task beside every other one, all pairs and seeds in a few vectorised fits.

A pair of tasks in a seed is a replica of its own (`pair_number`): a network of one hidden layer
with two heads, of which each task keeps the weights at its own least validation loss. So one
training gives two gains, that of either task beside the other. Trunk and heads start from weights
that depend on the seed and the task's name alone, alike in pairs and in single-task training.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import combinations, groupby, product

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import nn

from mtlbook.auxiliary.auxiliary_task import shuffled
from mtlbook.auxiliary.helpful_tasks import (
    both_identities,
    judge,
    leave_one_task_out,
    rank_agreement,
    task_identity,
)
from mtlbook.auxiliary.task_features import PAIR, pair_features, task_features
from mtlbook.book.data.worlds.factorial_tasks import CLASSES, Levels, factorial_tasks, plan
from mtlbook.book.experiments.networks import dense, hard_sharing
from mtlbook.book.experiments.training import adamw
from mtlbook.data import embedded
from mtlbook.data.multi_task_data import Consecutive, MultiTaskData
from mtlbook.randomness import generator
from mtlbook.sharing.hard import HardSharing
from mtlbook.tasks import Task
from mtlbook.training.fit import fit
from mtlbook.training.helpful_tasks import EARLY, early_gradients
from mtlbook.training.results import Fit
from mtlbook.training.sampling import Balanced
from mtlbook.training.settings import Settings

PAIRS = 1000  # more than there are pairs of tasks: room in the number of a replica
CURVE_POINTS = 20


@dataclass(frozen=True)
class Setting:
    """Classification tasks on the same inputs, and how each pair of them is trained.

    Attributes:
        data: from a seed to its data, whose rows are ordered as the split says.
        names: of the tasks.
        split: how many rows come first, next and last.
        labels: of how many of the first training rows each task has the labels.
        classes: outputs of every head, as many as the task with the most classes needs.
        width, rate, decay, steps, batch: of the network and of its training with AdamW.
    """

    data: Callable[[int], MultiTaskData]
    names: Sequence[str]
    split: Consecutive
    labels: Mapping[str, int]
    classes: int
    width: int = 8
    rate: float = 0.02
    decay: float = 1.0
    steps: int = 120
    batch: int = 32


@dataclass(frozen=True, eq=False)
class Pairs:
    """What training all pairs of tasks gave.

    Attributes:
        single: test loss of each task alone.
        joint: test loss of the row's task beside the column's; NaN on the diagonal.
        curves: training loss of each task alone, at equally spaced steps.
    """

    single: Float[np.ndarray, "seeds tasks"]
    joint: Float[np.ndarray, "seeds tasks tasks"]
    curves: Float[np.ndarray, "seeds tasks points"]

    @property
    def gains(self) -> Float[np.ndarray, "seeds tasks tasks"]:
        """The relative reduction of the row's task's loss beside the column's task, in percent."""
        return 100 * (1 - self.joint / self.single[:, :, None])


def train_pairs(setting: Setting, seeds: Sequence[int], device: str = "cpu") -> Pairs:
    """Train each task alone and each pair of tasks, for each seed."""
    names = list(setting.names)
    alone = _trained(setting, seeds, [(name,) for name in names], device)
    single = np.stack([alone[(name,)].loss(name) for name in names], axis=1)
    curves = np.stack([alone[(name,)].curve(name) for name in names], axis=1)
    together = _trained(setting, seeds, list(combinations(names, 2)), device)
    joint = np.full((len(seeds), len(names), len(names)), np.nan)
    for pair, trained in together.items():
        for main, auxiliary in (pair, pair[::-1]):
            joint[:, names.index(main), names.index(auxiliary)] = trained.loss(main)
    return Pairs(single, joint, curves)


@dataclass(frozen=True, eq=False)
class _Trained:
    """A group of tasks' share of a fit: its seeds."""

    fit: Fit
    group: Sequence[str]
    rows: slice

    def loss(self, name: str) -> Float[np.ndarray, " seeds"]:
        return self.fit.score(PLACES[self.group.index(name)], "loss")[self.rows]

    def curve(self, name: str) -> Float[np.ndarray, "seeds points"]:
        history, place = self.fit.history, PLACES[self.group.index(name)]
        own = history[(history["task"] == place) & (history["part"] == "train")]
        losses = np.asarray(own["loss"], dtype=float)
        return losses.reshape(-1, len(self.fit.seeds)).T[self.rows]


PLACES = ("first", "second")


def _trained(
    setting: Setting, seeds: Sequence[int], groups: Sequence[tuple[str, ...]], device: str
) -> dict[tuple[str, ...], _Trained]:
    """Each group of tasks, those with equally many labels in one fit."""
    data = cache(setting.data)

    def size(group: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(setting.labels[name] for name in group)

    # Of replicas that train together the first tasks have equally many labels, so have the second.
    ordered = [tuple(sorted(group, key=setting.labels.__getitem__)) for group in groups]
    found = {}
    for _, members in groupby(sorted(ordered, key=size), key=size):
        own = list(members)
        numbered = [seed * PAIRS + place for place in range(len(own)) for seed in seeds]
        trained = fit(
            partial(_network, groups=own, width=setting.width),
            lambda number, own=own: _of_pair(setting, data(number // PAIRS), own[number % PAIRS]),
            seeds=numbered,
            settings=Settings(
                split=setting.split,
                steps=setting.steps,
                sampler=Balanced(setting.batch),
                optimiser=adamw(setting.rate, setting.decay),
                stopping="each",
                validate_every=max(1, setting.steps // CURVE_POINTS),
                evaluate_on=["test"],
                device=device,
                progress_label="section 7.9",
            ),
        )
        for place, group in enumerate(own):
            rows = slice(place * len(seeds), (place + 1) * len(seeds))
            found[group] = _Trained(trained, group, rows)
    return {group: found[own] for group, own in zip(groups, ordered, strict=True)}


def _of_pair(setting: Setting, data: MultiTaskData, group: Sequence[str]) -> MultiTaskData:
    """The data of some tasks, named by their places, with heads of equal size."""
    targets, labelled = {}, {}
    for place, name in zip(PLACES, group, strict=False):
        marks = torch.ones(data.rows, dtype=torch.bool)
        marks[setting.labels[name] : setting.split.train] = False
        targets[place], labelled[place] = data.targets[name], marks
    tasks = [Task.classification(place, classes=setting.classes) for place in targets]
    return MultiTaskData.partial(tasks, data.inputs, targets, labelled)


def _network(
    data: MultiTaskData, seed: int, *, groups: Sequence[Sequence[str]], width: int
) -> HardSharing:
    """One hidden layer, and a linear head for each task of a replica's group."""
    group, inputs = groups[seed % PAIRS], data.inputs.shape[1]

    def drawn(rows: int, columns: int, owner: str) -> nn.Linear:
        layer = nn.Linear(columns, rows)
        source = generator(seed // PAIRS, "7.9 weights", owner)
        for values in layer.parameters():
            nn.init.uniform_(values, -(columns**-0.5), columns**-0.5, generator=source)
        return layer

    heads = {
        task.name: drawn(task.outputs, width, name)
        for task, name in zip(data.tasks, group, strict=True)
    }
    return HardSharing(lambda: [nn.Sequential(drawn(width, inputs, "trunk"), nn.Tanh())], heads)


# What is asked of the pairs ---------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Evidence:
    """All pairs of a setting's tasks, and what was known before they were trained.

    Attributes:
        setting: of the tasks.
        pairs: losses and learning curves.
        gradients: `cosine` and `affinity` early in one joint training, main task by auxiliary.
        labels: each seed's training labels by task.
    """

    setting: Setting
    pairs: Pairs
    gradients: Mapping[str, Float[np.ndarray, "seeds tasks tasks"]]
    labels: Sequence[Mapping[str, np.ndarray]]

    def features(self, place: int) -> pd.DataFrame:
        """The features of all ordered pairs for one seed, by its place."""
        names = self.setting.names
        tasks = task_features(
            self.labels[place], dict(zip(names, self.pairs.curves[place], strict=True))
        )
        return pair_features(tasks, {what: own[place] for what, own in self.gradients.items()})

    def gains(self, place: int) -> pd.Series:
        """The gains of all ordered pairs for one seed."""
        names, values = list(self.setting.names), self.pairs.gains[place]
        ordered = [(a, b) for a in names for b in names if a != b]
        index = pd.MultiIndex.from_tuples(ordered, names=PAIR)
        return pd.Series([values[names.index(a), names.index(b)] for a, b in ordered], index)


def gathered(setting: Setting, seeds: Sequence[int], device: str = "cpu") -> Evidence:
    """Train all pairs, and record the early gradients of all tasks together."""
    pairs = train_pairs(setting, seeds, device)
    whole = replace(setting.split, labels=setting.labels)

    def network(data: MultiTaskData, seed: int) -> HardSharing:  # noqa: ARG001
        stages = dense(data.inputs.shape[1], setting.width)
        return hard_sharing(stages, data.tasks, setting.width)

    gradients = early_gradients(
        network,
        setting.data,
        seeds=seeds,
        steps=max(1, round(EARLY * setting.steps)),
        settings=Settings(
            split=whole,
            sampler=Balanced(setting.batch),
            optimiser=adamw(setting.rate, setting.decay),
            device=device,
            progress_label="section 7.9",
        ),
    )
    labels = [
        {
            name: setting.data(seed).targets[name][: setting.labels[name]].numpy()
            for name in setting.names
        }
        for seed in seeds
    ]
    return Evidence(setting, pairs, gradients, labels)


ALL = "all features"
MAIN, OTHER = "main task alone", "auxiliary task alone"
RANDOM, PERMUTED = "random numbers", "tasks permuted"


def measured(evidence: Evidence, seeds: Sequence[int]) -> pd.DataFrame:
    """How features predict gains: a tidy table of columns seed, of, left out, metric and value.

    The `area` and the `error` of each set of features on pairs whose main or auxiliary task was
    left out; the `agreement` of each single feature of auxiliaries or pairs, mean Spearman's ρ with
    the gains of a main task's auxiliaries; the `gain` of each pair. `random numbers` are as many
    features as there are, drawn for each task and pair; `tasks permuted` are the real features of
    the wrong tasks: the tasks change places, pairs follow. `auxiliary task alone` tells the main
    tasks apart, too, so that an auxiliary does not pass for helpful by the main tasks it met.
    """
    rows = []
    for place, seed in enumerate(seeds):
        features, gains = evidence.features(place), evidence.gains(place)
        for name, own in _sets(features, gains, seed).items():
            said = leave_one_task_out(own, gains)
            for side in SIDES:
                found = judge(said[f"new {side}"], gains, side)
                rows.append((seed, name, f"new {side}", "area", found.area))
                rows.append((seed, name, f"new {side}", "error", found.error))
        lost = float((gains <= 0).mean())
        rows += [(seed, "always a gain", f"new {side}", "error", lost) for side in SIDES]
        matrix = evidence.pairs.gains[place]
        for name, agreement in _agreements(features, matrix).items():
            rows.append((seed, name, "", "agreement", agreement))
        wrong = _agreements(permuted(features, seed), matrix)["cosine"]
        rows.append((seed, f"cosine, {PERMUTED}", "", "agreement", wrong))
        rows += [
            (seed, f"{main} beside {auxiliary}", "", "gain", gain)
            for (main, auxiliary), gain in zip(gains.index, gains, strict=True)
        ]
    return pd.DataFrame(rows, columns=["seed", "of", "left out", "metric", "value"])


def values(
    table: pd.DataFrame, what: str, left_out: str = "", metric: str = "area"
) -> Float[np.ndarray, " seeds"]:
    """What such a table has of a set of features, or of a single one, for each seed."""
    rows = (table["of"] == what) & (table["left out"] == left_out) & (table["metric"] == metric)
    return table.loc[rows].sort_values("seed")["value"].to_numpy(dtype=float)


SIDES = ("auxiliary", "main")


def _sets(features: pd.DataFrame, gains: pd.Series, seed: int) -> dict[str, pd.DataFrame]:
    of_pairs = [name for name in ("cosine", "affinity") if name in features]
    curves = [name for name in features if "slope" in name or "fit" in name]
    labels = [name for name in features if name not in of_pairs and name not in curves]
    tasks = list(dict.fromkeys(features.index.get_level_values("main")))
    source = generator(seed, "7.9 random features")
    drawn = torch.randn(len(tasks), (len(labels) + len(curves)) // 2, generator=source)
    pairs = {
        name: torch.randn(len(tasks), len(tasks), generator=source).numpy() for name in of_pairs
    }
    return {
        ALL: features,
        "labels": features.loc[:, labels],
        "learning curves": features.loc[:, curves],
        "early gradients": features.loc[:, of_pairs],
        MAIN: task_identity(gains.index, "main"),
        OTHER: both_identities(gains.index),
        RANDOM: pair_features(pd.DataFrame(drawn.numpy(), index=tasks), pairs),
        PERMUTED: permuted(features, seed),
    }


def permuted(features: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The features of pairs with the tasks permuted: a pair of tasks has those of another pair."""
    tasks = list(dict.fromkeys(features.index.get_level_values("main")))
    order = torch.randperm(len(tasks), generator=generator(seed, "7.9 permuted tasks")).tolist()
    moved = dict(zip(tasks, [tasks[place] for place in order], strict=True))
    wrong = pd.MultiIndex.from_tuples([(moved[m], moved[a]) for m, a in features.index], names=PAIR)
    return features.loc[wrong].set_axis(features.index)


def _agreements(
    features: pd.DataFrame, gains: Float[np.ndarray, "tasks tasks"]
) -> dict[str, float]:
    """How well each feature of auxiliaries or pairs ranks the auxiliaries of a main task."""
    apart = ~np.eye(len(gains), dtype=bool)
    found = {}
    for name in features:
        if not name.startswith("main "):
            square = np.zeros_like(gains)
            square[apart] = features[name]
            found[name.removeprefix("auxiliary ")] = rank_agreement(square, gains)
    return found


def losses_beside(
    setting: Setting, seeds: Sequence[int], main: str, device: str = "cpu"
) -> dict[str, Float[np.ndarray, " seeds"]]:
    """The main task's test loss beside each of the others."""
    groups = [(main, other) for other in setting.names if other != main]
    trained = _trained(setting, seeds, groups, device)
    return {group[1]: trained[group].loss(main) for group in groups}


# The page's settings ----------------------------------------------------------------------------

VALIDATION, TEST = 150, 600
MAIN_TASK = Levels(common=True, uniform=True, noisy=False, large=False)


def described(setting: Setting) -> list[str]:
    """The tasks' names, for those of the plan what they are like."""
    words = (("own", "common"), ("skewed", "equal"), ("clean", "noisy"), ("few", "many"))
    levels = {
        name: " ".join(pair[on] for pair, on in zip(words, vars(own).values(), strict=True))
        for name, own in plan().items()
    }
    return [levels.get(name, name.replace("_", " ")) for name in setting.names]


def factorial(few: int, many: int) -> Setting:
    """The eight tasks of the factorial plan."""
    levels = plan()
    labels = {name: many if own.large else few for name, own in levels.items()}
    return constructed(levels, labels)


def constructed(levels: Mapping[str, Levels], labels: Mapping[str, int]) -> Setting:
    """Some tasks of the factorial world with so many training labels each."""
    most = max(labels.values())

    @cache
    def data(seed: int) -> MultiTaskData:
        return factorial_tasks(seed, rows=most + VALIDATION + TEST, tasks=levels).data

    split = Consecutive(most, VALIDATION, TEST)
    return Setting(data, list(levels), split, labels, classes=CLASSES)


def by_entropy(few: int, many: int) -> Setting:
    """A main task and eight auxiliaries, of the `same` direction or another one.

    Their classes are `equal` or `unequal`, in `clean` or `noisy` labels: `same_equal_clean`.
    """
    words = (("other", "same"), ("unequal", "equal"), ("clean", "noisy"))
    levels = {"main": MAIN_TASK}
    for on in product((False, True), repeat=3):
        name = "_".join(pair[own] for pair, own in zip(words, on, strict=True))
        levels[name] = Levels(*on, large=True)
    return constructed(levels, {name: few if name == "main" else many for name in levels})


def with_shuffled_labels(setting: Setting, main: str) -> Setting:
    """The same tasks, the labels of all but the main one permuted among the rows."""

    @cache
    def data(seed: int) -> MultiTaskData:
        found = setting.data(seed)
        for name in setting.names:
            if name != main:
                found = shuffled(found, name, seed)
        return found

    return replace(setting, data=data)


DIGITS = {"digit": 120, "parity": 40, "loop": 40, "above_four": 40, "eight": 120, "ink": 120}
"""Training labels of each property of the digits."""


def digits(*names: str) -> Setting:
    """Properties of handwritten digits as tasks; default: those of `DIGITS`.

    `ink` is the quartile of the sum of all pixels, a function of the inputs. `merged` is the digit
    with 0 to 7 as one class.
    """
    images = embedded.digits("digit")
    digit, ink = images.targets["digit"], images.inputs.sum(1)
    cuts = torch.quantile(ink, torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64))
    targets = {
        "digit": digit,
        "parity": digit % 2,
        "loop": torch.isin(digit, torch.tensor([0, 6, 8, 9])).long(),
        "above_four": (digit > 4).long(),
        "eight": (digit == 8).long(),
        "ink": torch.bucketize(ink, cuts),
        "merged": (digit - 7).clamp(min=0),
    }
    labels = {name: DIGITS.get(name, 120) for name in names or DIGITS}
    tasks = [Task.classification(name, classes=int(targets[name].max()) + 1) for name in labels]

    most = max(labels.values())

    @cache
    def data(seed: int) -> MultiTaskData:
        order = torch.randperm(len(digit), generator=generator(seed, "7.9 digits"))
        order = order[: most + VALIDATION + TEST]
        own = {name: targets[name][order] for name in labels}
        return MultiTaskData.multi_label(tasks, images.inputs[order], own)

    split = Consecutive(most, VALIDATION, TEST)
    classes = max(task.outputs for task in tasks)
    return Setting(data, list(labels), split, labels, classes, width=16, decay=0.1)
