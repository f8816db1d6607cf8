"""Section 4.5 on NHANES 2017-2018: sharing as a regulariser where inputs say little.

Ten tasks, the nine answers of the PHQ-9 and the diagnosis that their sum gives, from age, sex,
income and measures of body and blood (`mtlbook.data.nhanes`): 500 training, 500 validation and
1,000 test rows, drawn anew for each seed; networks of one hidden layer of 16 tanh units.

1. *Fit to shuffled labels.* Each task's labels are permuted among the rows, by itself, and
   separate and shared networks are trained on 500 of them without any regulariser. Reported is the
   share of the training loss of a constant prediction that disappears, averaged over the tasks.
2. *Test loss* on the true labels, averaged over the tasks relative to the loss of a constant
   prediction: separate networks and a shared trunk with early stopping, an L2 penalty or dropout,
   three trials each, chosen on validation data; and the shared trunk with early stopping alone and
   nine learning rates.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import nn

from mtlbook.data import Holdout, MultiTaskData, nhanes
from mtlbook.dropout import Dropout
from mtlbook.randomness import generator
from mtlbook.selection import select
from mtlbook.sharing.hard import HardSharing
from mtlbook.training import Fit, fit

SECTION = "4.5"
DATA = ("nhanes_2017",)
SEEDS = 10

UNITS = 16
SPLIT = Holdout(train=500, validation=500, test=1000)
STEPS = 150
RATES = (0.001, 0.003, 0.01)
MORE_RATES = (0.0003, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.01, 0.02)
REGULARISERS: Mapping[str, Sequence[dict[str, Any]]] = {
    "early stopping": [{"early": True, "rate": rate} for rate in RATES],
    "L2 penalty": [{"penalty": penalty} for penalty in (0.03, 0.1, 0.3)],
    "dropout": [{"dropout": rate} for rate in (0.3, 0.5, 0.7)],
}
NETWORKS = {"separate": 0, "shared": None}


def run(seeds: Sequence[int], device: str) -> pd.DataFrame:
    """The results: columns seed, measure, network, regulariser, metric and value."""
    data = nhanes.load()
    train = partial(_train, seeds=seeds, device=device)
    constant = constant_losses(data)
    found = {}
    for name, branch_at in NETWORKS.items():
        on_noise = train(branch_at, partial(shuffled, data), rate=0.01)
        found["fit to shuffled labels", name, "none"] = 1 - np.mean(
            [on_noise.score(task, "loss", "train") / loss for task, loss in constant.items()],
            axis=0,
        )
        fits = {
            regulariser: {str(setting): train(branch_at, data, **setting) for setting in grid}
            for regulariser, grid in REGULARISERS.items()
        }
        fits["best of the three"] = {
            setting: fit for of_one in fits.values() for setting, fit in of_one.items()
        }
        if name == "shared":
            fits["early stopping, nine rates"] = {
                str(rate): train(branch_at, data, rate=rate, early=True) for rate in MORE_RATES
            }
        for regulariser, trials in fits.items():
            found["test loss", name, regulariser] = _selected(trials, branch_at == 0, constant)
    return pd.DataFrame(
        [
            (seed, *key, "relative loss", value)
            for key, values in found.items()
            for seed, value in zip(seeds, values, strict=True)
        ],
        columns=["seed", "measure", "network", "regulariser", "metric", "value"],
    )


def shuffled(data: MultiTaskData, seed: int) -> MultiTaskData:
    """The data with each task's labels permuted among the rows by themselves."""
    rows = len(data.inputs)
    targets = {
        name: values[torch.randperm(rows, generator=generator(seed, "shuffled labels", name))]
        for name, values in data.targets.items()
    }
    return MultiTaskData.multi_label(data.tasks, data.inputs, targets)


def _train(
    branch_at: int | None,
    data: Any,
    *,
    seeds: Sequence[int],
    device: str,
    rate: float = 0.003,
    penalty: float = 0.0,
    dropout: float = 0.0,
    early: bool = False,
) -> Fit:
    first = data if isinstance(data, MultiTaskData) else data(seeds[0])
    stopping = ("each" if branch_at == 0 else "joint") if early else None
    return fit(
        lambda: HardSharing(
            [nn.Linear(first.inputs.shape[1], UNITS), nn.Tanh(), Dropout(dropout)],
            first.tasks,
            UNITS,
            branch_at,
        ),
        data,
        seeds=seeds,
        device=device,
        split=SPLIT,
        batch_size=50,
        steps=STEPS,
        every=STEPS // 20,
        optimiser=partial(torch.optim.Adam, lr=rate, weight_decay=penalty, fused=True),
        stopping=stopping,
        label="NHANES",
    )


def _selected(
    fits: Mapping[str, Fit], each_task: bool, constant: Mapping[str, float]
) -> Float[np.ndarray, " seeds"]:
    chosen = select(fits, each_task=each_task)
    return np.mean([chosen.score(name, "loss") / loss for name, loss in constant.items()], axis=0)


def constant_losses(data: MultiTaskData) -> dict[str, float]:
    """For each task the loss of the best constant prediction: the variance, or the entropy."""
    losses = {}
    for task in data.tasks:
        values = data.targets[task.name].numpy()
        share = values.mean()
        losses[task.name] = float(
            values.var()
            if task.kind == "regression"
            else -share * np.log(share) - (1 - share) * np.log(1 - share)
        )
    return losses
