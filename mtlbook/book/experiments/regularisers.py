"""Section 4.5, sharing and regularisers: contestants of one size, with equal trials of each."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import nn

from mtlbook.book.experiments.networks import mlp
from mtlbook.book.experiments.results import error_reduction, scores
from mtlbook.book.experiments.tables import contrasts
from mtlbook.book.experiments.training import Trials, adam, crossed, search, units
from mtlbook.book.page import Page
from mtlbook.data import Holdout, MultiTaskData
from mtlbook.mechanisms.regularisation import equal_width
from mtlbook.sharing.hard import HardSharing
from mtlbook.training.sampling import Mixed
from mtlbook.training.selection import select

BEST, ALONE = "best of the three", "early stopping, as many trials"
WIDTHS, DROPOUTS = (6, 16), (0.3, 0.5)  # units of a separate network, and what each drops
STEPS, CHECKPOINTS, TEST = 60, 4, 500

Losses = dict[str, Float[np.ndarray, " seeds"]]


def network(
    data: MultiTaskData, seed: int, width: int, branch_at: int | None, dropout: float = 0.0
) -> HardSharing:
    """A network of one hidden layer of tanh units, of which a share is dropped while training."""

    def activation() -> nn.Module:
        return nn.Sequential(nn.Tanh(), nn.Dropout(dropout)) if dropout else nn.Tanh()

    return mlp(data, seed, width=width, branch_at=branch_at, activation=activation)


def rates(*values: float, penalties: Sequence[float] = (0.0,)) -> Trials:
    """Trials of Adam with each learning rate and each L2 penalty."""
    return {
        f"rate {rate:g}, penalty {penalty:g}": {"optimiser": adam(rate, penalty)}
        for rate in values
        for penalty in penalties
    }


def trials(widths: Sequence[int], penalties: Sequence[float]) -> dict[str, Trials]:
    """Four trials of early stopping, of an L2 penalty and of dropout, and all of them together."""
    dropped = {
        f"{width} units, dropout {share:g}": {"width": width, "dropout": share}
        for width, share in zip(widths, DROPOUTS, strict=True)
    }
    grids: dict[str, Trials] = {
        "early stopping": crossed(units(*widths), rates(0.01, 0.05)),
        "L2 penalty": crossed(units(*widths), rates(0.1, penalties=penalties)),
        "dropout": crossed(dropped, rates(0.01, 0.05)),
    }
    return grids | {BEST: _together(grids)}


def contest(
    page: Page,
    data: Callable[[int], MultiTaskData],
    *,
    penalties: Sequence[float],
    examples: int,
    control: bool = False,
) -> dict[str, Losses]:
    """The test losses of separate networks and of a shared layer with as many parameters.

    Each contestant has the twelve trials of :func:`trials`; every trial keeps the weights with the
    least validation loss. Separate networks choose trial and weights for each task, the shared
    layer for all tasks. The shared layer has besides twelve trials with early stopping alone.

    Arguments:
        page: whose seeds and device are used.
        data: from a seed to its tasks, of one output each.
        penalties: the two strengths of the L2 penalty.
        examples: for training, and as many for validation.
        control: adds separate networks that choose one trial and one checkpoint for all tasks.

    Returns:
        For each contestant and each of its grids the test loss, averaged over the tasks, a value a
        seed: `"single-task"`, `"hard sharing"` and, as control, `"single-task, chosen jointly"`.
    """
    first = data(page.seeds[0])
    size = {"tasks": len(first.tasks), "inputs": first.inputs.shape[1]}
    wide = [equal_width(width, **size) for width in WIDTHS]
    alone = {ALONE: crossed(units(*WIDTHS, wide[-1]), rates(0.005, 0.01, 0.02, 0.05))}

    def losses(branch_at: int | None, stopping: str, grids: Mapping[str, Trials]) -> Losses:
        found = search(
            page,
            network,
            data,
            _together(grids),
            branch_at=branch_at,
            stopping=stopping,
            split=Holdout(train=examples, validation=examples, test=TEST),
            sampler=Mixed(examples // 2),
            steps=STEPS,
            validate_every=STEPS // CHECKPOINTS,
            evaluate_on=["validation", "test"],
        )
        chosen = {
            what: select({name: found[name] for name in grid}, each_task=stopping == "each")
            for what, grid in grids.items()
        }
        return {what: scores(own, "loss").mean(1) for what, own in chosen.items()}

    contestants = {
        "single-task": losses(0, "each", trials(WIDTHS, penalties)),
        "hard sharing": losses(None, "sum", trials(wide, penalties) | alone),
    }
    if control:
        jointly = losses(0, "sum", trials(WIDTHS, penalties))
        contestants["single-task, chosen jointly"] = {BEST: jointly[BEST]}
    return contestants


def reductions(losses: Mapping[str, Mapping[str, Losses]]) -> pd.DataFrame:
    """Relative error reductions against the separate networks with the best regulariser.

    Arguments:
        losses: by data set what :func:`contest` found.

    Returns:
        A row for each data set, regulariser and network: estimate, low and high.
    """
    rows = {
        (name, what, who): error_reduction(loss, contestants["single-task"][BEST])
        for name, contestants in losses.items()
        for who, by_regulariser in contestants.items()
        for what, loss in by_regulariser.items()
        if (who, what) != ("single-task", BEST)
    }
    return contrasts(rows, "data", "regulariser", "network")


def _together(grids: Mapping[str, Trials]) -> Trials:
    return {name: own for grid in grids.values() for name, own in grid.items()}
