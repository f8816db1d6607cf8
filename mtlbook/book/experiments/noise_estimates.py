"""Section 6.6: the noise of several tasks, learnt as variances or read from residuals."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.book.data.noisy_tasks import noisy_tasks
from mtlbook.book.experiments.networks import mlp
from mtlbook.book.experiments.results import scores
from mtlbook.book.experiments.training import search
from mtlbook.book.page import Page
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.training.sampling import Mixed
from mtlbook.training.selection import select
from mtlbook.weighting.uncertainty import UncertaintyWeighting

RATES = (0.02, 0.04, 0.08)
SPEED = 4.0  # how many times as fast as the network the log-variances learn
VALIDATION = 200


@dataclass(frozen=True)
class NoiseEstimates:
    """Two estimates of each task's noise variance.

    Attributes:
        true: of each task.
        learnt: the variances of uncertainty weighting.
        residuals: the mean squared training residuals under equal weights.
    """

    true: Float[np.ndarray, " tasks"]
    learnt: Float[np.ndarray, "seeds tasks"]
    residuals: Float[np.ndarray, "seeds tasks"]

    @property
    def distances(self) -> dict[str, Float[np.ndarray, " seeds"]]:
        """|log(estimate / truth)|, averaged over the tasks, of both estimates by name."""
        both = {"learnt variances": self.learnt, "residuals, equal weights": self.residuals}
        return {name: np.abs(np.log(own / self.true)).mean(1) for name, own in both.items()}


def noise_estimates(page: Page, levels: Sequence[float], examples: int) -> NoiseEstimates:
    """Train with learnt and with equal weights, three learning rates each, and read the noise.

    Validation data choose the learning rate. No training stops early: a variance is read where it
    has arrived.

    Arguments:
        page: whose seeds and device are used.
        levels: the standard deviation of each task's noise, relative to its signal.
        examples: training examples.
    """

    @cache
    def data(seed: int) -> MultiTaskData:
        return noisy_tasks(seed, rows=examples + VALIDATION, noise=levels, inputs=5).data

    weighting = UncertaintyWeighting(data(page.seeds[0]).tasks)
    learnt, equal = (
        select(
            search(
                page,
                mlp,
                data,
                {
                    f"rate {rate:g}": {"optimiser": partial(_adam, rate=rate), "combiner": combiner}
                    for rate in RATES
                },
                split=Holdout(train=examples, validation=VALIDATION, test=0),
                steps=300,
                sampler=Mixed(min(examples, 64)),
                schedule=lambda progress: 1 - progress,
                validate_every=300,
                stopping=None,
                evaluate_on=["train", "validation"],
            )
        )
        for combiner in (weighting, None)
    )
    chosen = learnt.choices.iloc[:, 0]
    fitted = [learnt.fits[chosen[seed]].combiner(seed) for seed in page.seeds]
    variances = [own.variances.tolist() for own in fitted if isinstance(own, UncertaintyWeighting)]
    return NoiseEstimates(np.square(levels), np.array(variances), scores(equal, "loss", "train"))


def _adam(named: list[tuple[str, Tensor]], rate: float) -> torch.optim.Adam:
    """Adam, in which what is not the model's (the log-variances) learns `SPEED` times as fast."""
    groups = [
        {"params": [own for name, own in named if name.startswith("model.")], "lr": rate},
        {
            "params": [own for name, own in named if not name.startswith("model.")],
            "lr": SPEED * rate,
        },
    ]
    return torch.optim.Adam([group for group in groups if group["params"]], fused=True)
