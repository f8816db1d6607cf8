"""Solving for the weights of each replica on its own: solvers branch on the data."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from mtlbook.combiner import Combiner, Evidence
from mtlbook.errors import UsageError

# The least length of a combination of gradients, of the longest, that their Gramian's squares tell
# from 0.
RESOLUTION = 1e-7


def gramian_of(evidence: Evidence, combiner: Combiner) -> Float[torch.Tensor, "*r tasks tasks"]:
    """The Gramian, or an error that says how to come by it."""
    if evidence.gramian is None:
        raise UsageError(
            f"{type(combiner).__name__} needs the Gramian of the tasks' gradients: give evidence "
            "with task_gradients(...).gramian, or call mtlbook.balancing.backward.backward."
        )
    return evidence.gramian


def weights_by(
    solve: Callable[..., Float[ndarray, " k"]],
    evidence: Evidence,
    combiner: Combiner,
    *of_tasks: Float[torch.Tensor, "*r tasks"],
) -> Float[torch.Tensor, "*r tasks"]:
    """The weights that a solver finds for each replica, from its labelled tasks' Gramian.

    Computed in float64 on the CPU, whatever the precision and device of the training. Tasks
    without a label have weight 0. A replica whose Gramian is not finite gets NaN: it has diverged,
    and its neighbours have not.

    Arguments:
        solve: finds them from the Gramian and the numbers of each of `of_tasks`.
        evidence: with the Gramian.
        combiner: for which they are found.
        *of_tasks: further numbers, one a task.
    """
    gramian = gramian_of(evidence, combiner)
    tasks = gramian.shape[-1]
    gramians = gramian.detach().double().cpu().numpy().reshape(-1, tasks, tasks)
    labelled = evidence.labelled.cpu().numpy().reshape(-1, tasks)
    further = [own.double().cpu().numpy().reshape(-1, tasks) for own in of_tasks]
    weights = np.zeros(labelled.shape)
    for number, (own, known) in enumerate(zip(gramians, labelled, strict=True)):
        part = own[np.ix_(known, known)]
        if not np.isfinite(part).all():
            weights[number, known] = np.nan
        elif known.any():
            weights[number, known] = solve(part, *(each[number, known] for each in further))
    return torch.from_numpy(weights).view(evidence.losses.shape).to(evidence.losses)


def cosines(
    gramian: Float[ndarray, "k k"],
) -> tuple[Float[ndarray, "k k"], Float[ndarray, " k"]]:
    """The Gramian of the unit gradients, and the norms; rows of zeros stay zeros.

    Problems are solved in unit gradients, so that norms of very different size cost no digits.
    """
    norms = np.sqrt(np.clip(gramian.diagonal(), 0, None))
    inverse = np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0)
    unit = gramian * inverse[:, None] * inverse
    np.fill_diagonal(unit, norms > 0)
    return unit, norms


def root(gramian: Float[ndarray, "k k"]) -> Float[ndarray, "r k"]:
    """R with RᵀR = G, of as many rows as G has rank: a least-squares problem has rows, not G."""
    values, vectors = np.linalg.eigh(gramian)
    # Smaller ones, and negative ones, are rounding.
    positive = values > len(values) * np.finfo(float).eps * max(values[-1], 0)
    return np.sqrt(values[positive])[:, None] * vectors[:, positive].T
