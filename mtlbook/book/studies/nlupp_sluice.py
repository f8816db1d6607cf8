r"""Section 6.8: sluice networks on the intents of utterances to a bank and to a hotel.

NLU++ (Casanueva et al., 2022): two domains with intents of their own, such as `card` or `room`, and
26 intents in common, such as `affirm` or `how_long`: half private by nature. A task is a domain;
its head gives the log-odds of each of its intents, and its loss is the binary cross-entropy,
averaged over the intents.

Protocol. An utterance is 512 hashed counts of its words and pairs of words. Each seed draws, anew
of each domain, a tenth for validation, 30 % for test, and 600 utterances for training (605 of the
hotel). All networks have two layers of 32 rectified units and linear heads, and take 200 steps of
AdamW on 32 utterances of each domain. With fewer labels of the hotel (100 or 150 in pilots) its
network overfits before the bank's has learnt anything, and what is compared is when to stop.

Everyone has four trials, chosen for each seed by validation loss, within which the weights with the
least validation loss are kept:

* *single-task networks*: learning rates 0.003 and 0.01, weight decay 1 and 0.1; each task chooses
  and stops on its own;
* *hard sharing*: the same trials; *best split*: after layer 1 or 2, the same rates, decay 0.1;
* *cross-stitch* and *sluice networks*: the same rates, decay 0.1, α_ii = 0.7 or 0.5 at the start;
  columns start from equal weights; sluice networks have two subspaces, and β = 0.9 on the last
  layer at the start;
* *shuffled auxiliary*: the sluice network, where the bank's intents belong to other utterances.

The main task is the hotel's. All is computed in float32. Fixed after pilots on seeds from 7000. It
takes about one minute.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import nn

from mtlbook.architectures.cross_stitch import CrossStitch
from mtlbook.architectures.sluice_networks import Sluice
from mtlbook.book.experiments.networks import Stages, dense, hard_sharing, linear_head
from mtlbook.book.experiments.sluices import from_one_start, with_shuffled
from mtlbook.book.experiments.training import adamw
from mtlbook.data import Holdout, MultiTaskData, nlupp
from mtlbook.training.fit import fit_trials
from mtlbook.training.results import Fit
from mtlbook.training.sampling import Balanced
from mtlbook.training.selection import Selected, select
from mtlbook.training.settings import Settings, Trial

SECTION = "6.8"
DATA = ("nlupp",)
SEEDS = 16

INPUTS, WIDTH, DEPTH = 512, 32, 2
SPLIT = Holdout(train=0.6, validation=0.1, test=0.3, labels={"banking": 600})
RATES, DECAYS, SAME = (0.003, 0.01), (1.0, 0.1), (0.7, 0.5)
STEPS, BATCH = 200, 32


def run(
    seeds: Sequence[int], device: str, *, split: Holdout = SPLIT, steps: int = STEPS
) -> pd.DataFrame:
    """Test losses and accuracies: a row a seed, method, task and metric."""
    data = nlupp.load(INPUTS)
    chosen = contestants(data, seeds, device, split, steps)
    rows = [
        (seed, method, task.name, metric, value)
        for method, own in chosen.items()
        for task in data.tasks
        for metric in ("loss", "accuracy")
        for seed, value in zip(seeds, own.score(task.name, metric), strict=True)
    ]
    return pd.DataFrame(rows, columns=["seed", "method", "task", "metric", "value"])


def contestants(
    data: MultiTaskData, seeds: Sequence[int], device: str, split: Holdout, steps: int
) -> dict[str, Selected]:
    """Each contestant's chosen trials."""
    common = Settings(
        split=split,
        sampler=Balanced(BATCH),
        steps=steps,
        validate_every=max(1, steps // 15),
        evaluate_on=("validation", "test"),
        device=device,
        dtype=torch.float32,
    )

    def tried(
        build: Callable[..., nn.Module],
        dials: Mapping[str, Mapping[str, Any]],
        decays: Sequence[float] = DECAYS[-1:],
        rows: Callable[[int], MultiTaskData] | MultiTaskData = data,
        stopping: str = "relative",
    ) -> Selected:
        optimisers = {
            f"rate {rate:g}, decay {decay:g}": Trial(adamw(rate, decay))
            for rate in RATES
            for decay in decays
        }
        found: dict[str, Fit] = {}
        for name, own in dials.items():
            fits = fit_trials(
                partial(build, **own),
                rows,
                seeds=seeds,
                trials=optimisers,
                settings=replace(common, stopping=stopping),
            )
            found |= {f"{name}, {trial}": fit for trial, fit in fits.items()}
        return select(found, each_task=stopping == "each")

    def split_after(*depths: int) -> dict[str, dict[str, int]]:
        return {f"split after {depth}": {"shared": depth} for depth in depths}

    starts = {f"α {same:g}": {"same": same} for same in SAME}
    return {
        "single-task": tried(split_network, split_after(0), DECAYS, stopping="each"),
        "hard sharing": tried(split_network, split_after(DEPTH), DECAYS),
        "best split": tried(split_network, split_after(*range(1, DEPTH + 1))),
        "cross-stitch": tried(stitched_network, starts),
        "sluice": tried(sluice_network, starts),
        "shuffled auxiliary": tried(
            sluice_network, starts, rows=lambda seed: with_shuffled(data, seed, ["banking"])
        ),
    }


def stages() -> Stages:
    """What makes the two layers of a column."""
    return dense(INPUTS, *[WIDTH] * DEPTH, activation=nn.ReLU)


def split_network(data: MultiTaskData, _seed: int, *, shared: int) -> nn.Module:
    """One network that shares its first layers; with none, single-task networks."""
    return hard_sharing(stages(), data.tasks, WIDTH, branch_at=shared)


def stitched_network(data: MultiTaskData, _seed: int, *, same: float) -> CrossStitch:
    """A column a task, a cross-stitch unit behind each layer."""
    heads = {task.name: linear_head(WIDTH, task) for task in data.tasks}
    return CrossStitch(from_one_start(stages()), heads, same=same)


def sluice_network(data: MultiTaskData, _seed: int, *, same: float) -> Sluice:
    """A column a task, of two subspaces."""
    heads = {task.name: linear_head(WIDTH, task) for task in data.tasks}
    return Sluice(from_one_start(stages()), heads, same=same)
