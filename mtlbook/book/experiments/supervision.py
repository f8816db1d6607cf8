"""Section 6.4's contestants: taggers of a stack of windows, with the low task at some layer."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from mtlbook.architectures.low_supervision import LowSupervision
from mtlbook.book.experiments.results import trained_network
from mtlbook.book.experiments.training import Trials, adam, tuned
from mtlbook.book.page import Page
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.layers.tagging import Masked, TagHead, Words
from mtlbook.layers.window import Window
from mtlbook.metrics import IGNORED
from mtlbook.randomness import generator
from mtlbook.training.fit import Data
from mtlbook.training.sampling import Balanced
from mtlbook.training.selection import Selected, select


@dataclass(frozen=True, kw_only=True)
class Taggers:
    """An experiment: two taggings, one stack, and where the low task's head stands in it.

    The main task's head stands at the last layer. Every contestant has one trial for each learning
    rate, and takes for each seed the one, and the step, with the least validation loss of the main
    task.

    Attributes:
        page: whose seeds and device are used.
        data: one data set, or a function from a seed to its data.
        split: into parts, and how many labels the main task has.
        low: the low task.
        main: the main task.
        vocabulary: numbers that a token can have.
        vector: entries of a token's vector.
        width: units of each layer of windows.
        depth: layers.
        steps: of each training; a step sees `batch` sentences with tags of each task.
        batch: see `steps`.
        rates: of Adam, a trial each.
    """

    page: Page
    data: Data
    split: Holdout
    low: str = "low"
    main: str = "main"
    vocabulary: int
    vector: int = 8
    width: int = 8
    depth: int = 3
    steps: int = 200
    batch: int = 8
    rates: tuple[float, ...] = (0.01, 0.02, 0.03)

    def network(self, data: MultiTaskData, _seed: int, *, layer: int) -> LowSupervision:
        """A stack with a head for each of the data's tasks, the low task's at `layer`."""

        def stages() -> list[nn.Module]:
            first = nn.Sequential(
                Words(self.vocabulary, self.vector), Masked(Window(self.vector, self.width))
            )
            upper = range(self.depth - 1)
            return [first, *(Masked(Window(self.width, self.width)) for _ in upper)]

        heads = {task.name: TagHead(self.width, task.outputs) for task in data.tasks}
        return LowSupervision(stages, heads, at={self.low: layer} if self.low in heads else {})

    def single_task(self) -> Selected:
        """The main task alone, in the same stack."""
        return self._tuned(self.depth, tasks=[self.main])

    def at(self, layer: int, data: Data | None = None) -> Selected:
        """Both tasks, the low one at a layer; with other data in place of its own, if given."""
        chosen = self if data is None else replace(self, data=data)
        return chosen._tuned(layer)

    def best(self, layers: dict[int, Selected]) -> Selected:
        """For each seed the best layer, by validation: as many trials, each at the middle rate."""
        middle = self._named(self.rates[len(self.rates) // 2])
        found = {f"layer {layer}": own.fits[middle] for layer, own in layers.items()}
        return select(found, each_task=True)

    def _tuned(self, layer: int, **settings: Any) -> Selected:
        trials: Trials = {self._named(rate): {"optimiser": adam(rate)} for rate in self.rates}
        return tuned(
            self.page,
            self.network,
            self.data,
            trials,
            layer=layer,
            split=self.split,
            steps=self.steps,
            sampler=Balanced(self.batch),
            stopping=self.main,
            validate_every=max(1, self.steps // 10),
            evaluate_on=("validation", "test"),
            **settings,
        )

    @staticmethod
    def _named(rate: float) -> str:
        return f"rate {rate:g}"


def shuffled(data: Callable[[int], MultiTaskData], task: str) -> Callable[[int], MultiTaskData]:
    """The same data with a task's tags permuted, for each seed anew, among all known positions."""

    @cache
    def permuted(seed: int) -> MultiTaskData:
        own = data(seed)
        tags = own.targets[task].clone()
        known = (tags != IGNORED) & own.labelled[task].unsqueeze(-1)
        order = torch.randperm(int(known.sum()), generator=generator(seed, "shuffled tags", task))
        tags[known] = tags[known][order]
        return MultiTaskData(own.tasks, own.inputs, own.targets | {task: tags}, own.labelled)

    return permuted


def adaptation(
    data: MultiTaskData, rows: int, *, low: str = "low", target_tags: bool
) -> MultiTaskData:
    """Two domains in turn, of which the second, the target, has no tags but those of the low task.

    Arguments:
        data: every second sentence is of the target domain.
        rows: how many of the first sentences are kept.
        low: the task that may be tagged there.
        target_tags: whether it is.
    """
    kept = data.subset(torch.arange(rows))
    source = torch.arange(rows) % 2 == 0
    marks = {name: source | (target_tags and name == low) for name in kept.labelled}
    return MultiTaskData(kept.tasks, kept.inputs, kept.targets, marks)


def target_errors(
    trained: Selected, data: Callable[[int], MultiTaskData], rows: int, task: str = "main"
) -> Float[np.ndarray, " seeds"]:
    """The share of wrong tags on each seed's target sentences behind the first `rows`."""
    found = []
    for seed in trained.choices.index:
        own = data(seed)
        test = own.subset(torch.arange(rows + 1 - rows % 2, own.rows, 2))
        with torch.no_grad():
            tags = trained_network(trained, seed, task)(test.inputs)[task].argmax(1)
        found.append(float((tags != test.targets[task]).double().mean()))
    return np.array(found)
