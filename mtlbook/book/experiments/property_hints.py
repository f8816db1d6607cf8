"""Section 4.3, hints as properties: a network that is told that its target is odd, or rises."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtlbook.book.data.odd_target import odd_target
from mtlbook.book.experiments.networks import mlp
from mtlbook.book.experiments.results import error_reductions
from mtlbook.book.experiments.training import adamw, adamw_trials, crossed, train, tuned, units
from mtlbook.book.page import Page
from mtlbook.data import Holdout
from mtlbook.mechanisms.hints import monotonicity, oddness, regulariser
from mtlbook.randomness import generator
from mtlbook.training.sampling import Mixed

INPUTS, UNLABELLED, TEST = 6, 60, 1000
STRENGTHS = (10.0, 100.0)  # λ
PER_SEED = 2  # synthetic data sets of which a seed is the mean

Penalty = Callable[..., Float[Tensor, ""]]


def penalty(hint: str, strength: float, seed: int) -> Penalty:
    """λ times the error of a hint, `"oddness"` or `"monotonicity"`, on inputs without labels.

    Its examples are x and −x, or x and the same x with one input raised by up to 2.
    """
    draw = partial(generator, seed, "examples of hints")
    x = torch.randn(UNLABELLED, INPUTS, generator=draw("inputs"), dtype=torch.float64)
    step = 2 * torch.rand(UNLABELLED, 1, generator=draw("steps"), dtype=torch.float64)
    raised = x + step * nn.functional.one_hot(torch.arange(UNLABELLED) % INPUTS, INPUTS)
    error, other = {"oddness": (oddness, -x), "monotonicity": (monotonicity, raised)}[hint]
    return regulariser(error, x, other, task="value", strength=strength)


def tuned_error(page: Page, hint: str | None = None) -> Float[np.ndarray, " seeds"]:
    """The mean squared error after 20 examples, of the best of eight trials by validation data.

    Without a hint these are two widths by four weight decays, with one two widths by two weight
    decays by two strengths λ. Each seed is the mean of two synthetic data sets.
    """
    trials = crossed(units(2, 8), adamw_trials([0.1], [0.1, 0.3, 1.0, 3.0]))
    if hint is not None:
        strengths = {f"λ = {own:g}": _told(page, hint, own) for own in STRENGTHS}
        trials = crossed(units(2, 8), strengths, adamw_trials([0.1], [0.3, 1.0]))
    data_sets = [1000 * seed + number for seed in page.seeds for number in range(PER_SEED)]
    best = tuned(page, mlp, trials=trials, seeds=data_sets, **_target(examples=20))
    return best.score("value").reshape(-1, PER_SEED).mean(1)


def reductions_by_oddness(
    page: Page, *, even_part: float, examples: int
) -> Float[np.ndarray, " seeds"]:
    """Each seed's error reduction, %, by a hint at oddness (λ = 10) to a network of eight units.

    Arguments:
        page: whose seeds are used.
        even_part: δ of the target, which is odd at 0 only.
        examples: for training.
    """
    common = {"width": 8, "optimiser": adamw(0.03, 1.0), **_target(examples, even_part)}
    free = train(page, mlp, **common).score("value")
    told = train(page, mlp, **common, **_told(page, "oddness", STRENGTHS[0])).score("value")
    return error_reductions(told, free)


def _told(page: Page, hint: str, strength: float) -> dict[str, Any]:
    own = penalty(hint, strength, page.seeds[0])
    return {"regulariser": lambda model, _: own(model)}


def _target(examples: int, even_part: float = 0.0) -> dict[str, Any]:
    """What all trainings for the target have in common."""
    rows = examples + 100 + TEST
    return {
        "data": lambda seed: odd_target(seed, rows=rows, even_part=even_part).data,
        "split": Holdout(train=examples, validation=100, test=TEST),
        "steps": 150,
        "sampler": Mixed(40),
        "validate_every": 15,
        "evaluate_on": ["validation", "test"],
    }
