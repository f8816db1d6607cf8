"""Section 4, the mechanisms together: both contestants in every run of the design, and a null."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import nn

from mtlbook.book.data.together import Switches, main_and_other_tasks, switched, with_copies
from mtlbook.book.experiments.networks import mlp
from mtlbook.book.experiments.training import adam, tuned
from mtlbook.book.page import Page
from mtlbook.data import Consecutive, MultiTaskData
from mtlbook.data.synthetic import SyntheticDataset
from mtlbook.randomness import generator
from mtlbook.training.selection import Selected

MAIN = ("main_1", "main_2")
OTHERS, IRRELEVANT, TEST, STEPS = 2, 10, 600, 150
# Width, learning rate and penalty. Regularised networks try a half of the grid, each pair once.
REGULARISED = [(16, 0.03, 0.015), (16, 0.06, 0.005), (40, 0.03, 0.005), (40, 0.06, 0.015)]
NOT_REGULARISED = [(16, 0.03, 0.0), (16, 0.06, 0.0), (40, 0.03, 0.0), (40, 0.06, 0.0)]
LARGEST = 64  # units or inputs of a layer whose first weights are drawn


@dataclass(frozen=True)
class Outcome:
    """What a contestant reached in every run, for each main task and seed.

    Attributes:
        errors: of every trial: the mean squared distance from the noiseless targets.
        choice: the number of the trial that the main task's own validation labels chose.
    """

    errors: Float[np.ndarray, "runs tasks seeds trials"]
    choice: Int[np.ndarray, "runs tasks seeds"]

    @cached_property
    def error(self) -> Float[np.ndarray, "runs seeds"]:
        """The error of the chosen trials, averaged over the main tasks."""
        chosen = np.take_along_axis(self.errors, self.choice[..., None], axis=-1)
        return chosen[..., 0].mean(1)

    @property
    def untuned(self) -> Float[np.ndarray, "runs seeds trials"]:
        """The error of each trial if all networks took this one, averaged over the main tasks."""
        return self.errors.mean(1)


class Experiment:
    """The runs of a design on the synthetic data sets of a page's seeds.

    Arguments:
        page: whose seeds and device are used.
        runs: which switches are on; beside those of the data `no_regularisation`.
        examples: for training, and as many for validation.
        seeds: others than the page's.
    """

    def __init__(
        self,
        page: Page,
        runs: Sequence[Mapping[str, bool]],
        examples: int,
        seeds: Sequence[int] | None = None,
    ) -> None:
        self._page, self._runs, self._examples = page, runs, examples
        self._seeds = page.seeds if seeds is None else seeds
        self._made: dict[int, SyntheticDataset] = {}

    def made(self, replica: int) -> SyntheticDataset:
        """The data of a replica, which stands for a seed and the number of a run."""
        if replica not in self._made:
            seed, number = divmod(replica, len(self._runs))
            self._made[replica] = main_and_other_tasks(
                seed,
                switched(Switches(), self._runs[number]),
                rows=2 * self._examples + TEST,
                others=OTHERS,
                irrelevant=IRRELEVANT,
            )
        return self._made[replica]

    def single_task(self) -> Outcome:
        """A network for each main task."""
        return self._contest({"tasks": MAIN, "branch_at": 0})

    def joint(self) -> Outcome:
        """One network for all tasks of a run."""
        return self._contest({})

    def copies(self, number: int) -> Outcome:
        """In one run, a network for each main task and copies of it."""
        replicas = self._replicas([number])
        parts = [
            self._outcome(
                self._search(
                    replicas,
                    lambda replica, task=task: with_copies(
                        self.made(replica), task, len(MAIN) + OTHERS - 1
                    ),
                    self._runs[number],
                ),
                replicas,
                [task],
            )
            for task in MAIN
        ]
        return Outcome(
            np.concatenate([part.errors for part in parts], axis=1),
            np.concatenate([part.choice for part in parts], axis=1),
        )

    def _contest(self, options: Mapping[str, Any]) -> Outcome:
        """Runs with equally many inputs train side by side, like further seeds."""
        shape = (len(self._runs), len(MAIN), len(self._seeds))
        errors, choice = np.empty((*shape, 4)), np.empty(shape, dtype=int)
        columns = ["irrelevant_inputs", "no_regularisation"]
        for numbers in pd.DataFrame(self._runs).groupby(columns).groups.values():
            replicas = self._replicas(list(numbers))
            found = self._search(
                replicas, lambda replica: self.made(replica).data, self._runs[numbers[0]], options
            )
            part = self._outcome(found, replicas, MAIN)
            errors[numbers], choice[numbers] = part.errors, part.choice
        return Outcome(errors, choice)

    def _replicas(self, numbers: Sequence[int]) -> list[int]:
        return [seed * len(self._runs) + number for number in numbers for seed in self._seeds]

    def _search(
        self,
        replicas: Sequence[int],
        data: Callable[[int], MultiTaskData],
        run: Mapping[str, bool],
        options: Mapping[str, Any] | None = None,
    ) -> Selected:
        """All trials of a contestant; each task chooses by its own validation labels."""
        regularised = not run["no_regularisation"]
        trials = {
            f"{width} units, rate {rate}, penalty {penalty}": {
                "width": width,
                "optimiser": adam(rate, penalty),
            }
            for width, rate, penalty in (REGULARISED if regularised else NOT_REGULARISED)
        }
        return tuned(
            self._page,
            mlp,
            data,
            trials,
            each_task=True,
            seeds=replicas,
            split=Consecutive(train=self._examples, validation=self._examples, test=TEST),
            steps=STEPS,
            validate_every=STEPS // 10 if regularised else STEPS,
            stopping="each" if regularised else None,
            start=lambda model, replica: common_start(model, replica // len(self._runs)),
            **(options or {}),
        )

    def _outcome(self, found: Selected, replicas: Sequence[int], tasks: Sequence[str]) -> Outcome:
        names, seeds = list(found.fits), len(self._seeds)
        errors, choice = [], []
        for task in tasks:
            truth = [self.made(replica).noiseless[task][-TEST:].numpy() for replica in replicas]
            of_trials = [
                np.square(fit.predictions[task] - np.stack(truth)).mean((1, 2))
                for fit in found.fits.values()
            ]
            errors.append(np.stack(of_trials, axis=-1).reshape(-1, seeds, len(names)))
            numbers = [names.index(name) for name in found.choices[task]]
            choice.append(np.reshape(numbers, (-1, seeds)))
        return Outcome(np.stack(errors, axis=1), np.stack(choice, axis=1))


@torch.no_grad()
def common_start(model: nn.Module, seed: int) -> None:
    """PyTorch's initial distribution, the same draws in all networks of a seed.

    All hidden layers start alike, and so do all heads of a task. Fewer inputs or units have the
    first of more. What then differs between two runs or contestants is not their start.
    """
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear):
            purpose = name if name.startswith("heads.") else "hidden layer"
            source = generator(seed, "initial weights", purpose)
            drawn = torch.rand(LARGEST, LARGEST + 1, generator=source, dtype=torch.float64)
            weights = (2 * drawn[: layer.out_features] - 1) / layer.in_features**0.5
            layer.bias.copy_(weights[:, 0])
            layer.weight.copy_(weights[:, 1 : layer.in_features + 1])
