"""Section 6's contestants: single-task networks, the best split, and a method.

All contestants get equally many trials, the same steps, splits and minibatches, and choose by the
same validation labels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from mtlbook.book.experiments.networks import Stages, hard_sharing
from mtlbook.book.experiments.training import Trials, crossed, tuned
from mtlbook.book.page import Page
from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.training.fit import Data
from mtlbook.training.selection import Selected


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all contestants of an experiment have in common.

    Attributes:
        page: whose seeds and device are used.
        data: one data set, or a function from a seed to its data.
        stages: makes the hidden layers of one network, from the input on.
        width: features that the last stage gives to a head.
        trials: settings that every contestant tries, such as learning rates.
        settings: of the training, in common: `split`, `steps`, `sampler`, ….
    """

    page: Page
    data: Data
    stages: Stages
    width: int
    trials: Trials
    settings: Mapping[str, Any]

    def split(self, data: MultiTaskData, seed: int, *, branch_at: int | None = None) -> nn.Module:  # noqa: ARG002
        """A trunk of `branch_at` shared stages, a branch and a linear head for each task."""
        return hard_sharing(self.stages, data.tasks, self.width, branch_at=branch_at)

    def single_task(self, trials: Trials | None = None) -> Selected:
        """A network for each task, which chooses its trial and stops by its own validation loss."""
        return self.method(partial(self.split, branch_at=0), trials, stopping="each")

    def hard_sharing(self, trials: Trials | None = None) -> Selected:
        """One trunk of all stages."""
        return self.method(self.split, trials)

    def best_split(
        self, trials: Trials | None = None, depths: Sequence[int] | None = None
    ) -> Selected:
        """The best of all numbers of shared stages, from one to all, and all trials of each.

        Arguments:
            trials: of each split; fewer than others have where the totals are to be equal.
            depths: the numbers of shared stages to try.
        """
        tried = range(1, len(self.stages()) + 1) if depths is None else depths
        splits = {f"split after {depth}": {"branch_at": depth} for depth in tried}
        return self.method(self.split, crossed(splits, self.trials if trials is None else trials))

    def method(
        self, build: Callable[..., nn.Module], trials: Trials | None = None, **settings: Any
    ) -> Selected:
        """A network of its own: the trial of each seed with the least validation loss.

        Arguments:
            build: makes it from a seed's data and the seed; further arguments are its dials.
            trials: in place of those in common; as many.
            **settings: of the training, in place of those in common.
        """
        chosen = self.trials if trials is None else trials
        common: dict[str, Any] = {"stopping": "relative"} | dict(self.settings) | settings
        return tuned(self.page, build, self.data, chosen, **common)
