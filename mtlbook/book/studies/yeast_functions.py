"""Section 6.2: trees of 14 functional classes of yeast genes.

2,417 genes with 103 measurements each, standardised by the training rows' means and standard
deviations; 14 binary tasks of different skew (1 to 75 % of the genes). A seed splits the genes into
1,200 for training, 300 for validation and 917 for testing.

The contestants are those of the page, with the same trials (`experiments.branching`): two stages of
12 units with tanh, cut out of 48; 320 steps of Adam on batches of 64; α of 10 and 20, since 14
tasks make L_s large. All is computed in float64. 16 seeds take about two minutes of one core.
Fixed after pilots on seeds from 7000.
"""

from collections.abc import Sequence

import pandas as pd
import torch

from mtlbook.book.experiments.branching import Branching
from mtlbook.book.experiments.networks import dense
from mtlbook.data import MultiTaskData, mulan_labels
from mtlbook.data.multi_task_data import Holdout
from mtlbook.training.selection import Selected

SECTION = "6.2"
DATA = ("mulan_ml",)
SEEDS = 16

SPLIT = Holdout(train=1200, validation=300, test=917)
WIDTH, WIDE, STEPS, BATCH = 12, 48, 320, 64
ALPHAS = (10.0, 20.0)


def run(seeds: Sequence[int], device: str, steps: int = STEPS) -> pd.DataFrame:
    """Test errors and losses: a row a seed, method, task and metric."""
    whole = mulan_labels.load("yeast")
    return measured(contestants(whole, SPLIT, seeds, device, steps), whole, seeds)


def contestants(
    whole: MultiTaskData, split: Holdout, seeds: Sequence[int], device: str, steps: int
) -> dict[str, Selected]:
    """Every contestant's trials and choices, by name."""
    inputs = whole.inputs
    assert isinstance(inputs, torch.Tensor)
    columns = inputs.shape[1]

    def standardised(seed: int) -> MultiTaskData:
        train = inputs[split.draw(whole, seed).train]
        scaled = (inputs - train.mean(0)) / train.std(0).clamp_min(1e-9)
        return MultiTaskData.multi_label(whole.tasks, scaled, whole.targets)

    tasks = Branching(
        seeds=seeds,
        device=device,
        data=standardised,
        split=split,
        stages=lambda width: dense(columns, width, width),
        width=WIDTH,
        wide=WIDE,
        steps=steps,
        alphas=ALPHAS,
        batch=BATCH,
    )
    grown = tasks.grown()
    return {
        "tree": grown.fits,
        "random trees": tasks.random(grown).fits,
        "hard sharing": tasks.hard_sharing(grown.sizes),
        "best split": tasks.best_split(),
        "single-task": tasks.single_task(),
    }


def measured(
    chosen: dict[str, Selected], whole: MultiTaskData, seeds: Sequence[int]
) -> pd.DataFrame:
    """The test errors and losses of the chosen trials as a tidy table."""
    rows = [
        (seed, method, task.name, metric, value)
        for method, own in chosen.items()
        for task in whole.tasks
        for metric, values in (
            ("error", 1 - own.score(task.name)),
            ("loss", own.score(task.name, "loss")),
        )
        for seed, value in zip(seeds, values, strict=True)
    ]
    return pd.DataFrame(rows, columns=["seed", "method", "task", "metric", "value"])
