"""Exercises of section 6.9, what to share."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from mtlbook.book.exercises import WrongAnswer, exercise, prediction


def mean_rank_away(
    delta_m: Float[np.ndarray, "methods worlds"], at_home: Bool[np.ndarray, "methods worlds"]
) -> Float[np.ndarray, " methods"]:
    """Each method's mean rank over the worlds that are not its home; rank 1 is the best."""
    ranks = rankdata(-delta_m, axis=0)
    return np.nanmean(np.where(at_home, np.nan, ranks), axis=1)


@exercise(
    "6.9.a",
    "Write each method's mean rank over the worlds that are not its home, from Δm and a table of "
    "the same shape, methods × worlds, that is true at a method's home. Rank 1 is the best.",
    reference=mean_rank_away,
    hints=(
        "Rank all methods in each world first: a home is left out of its own method's mean alone.",
        "scipy.stats.rankdata(-delta_m, axis=0), then NaN at home, then np.nanmean over worlds.",
    ),
)
def check_mean_rank_away(
    answer: Callable[[np.ndarray, np.ndarray], Float[np.ndarray, " methods"]],
) -> None:
    """Accept the mean ranks of a table with a home of each method."""
    delta_m = np.array([[30.0, -5.0, 4.0, 1.0], [10.0, 20.0, 6.0, 2.0], [20.0, 5.0, 8.0, 3.0]])
    at_home = np.zeros((3, 4), dtype=bool)
    at_home[[0, 1], [0, 1]] = True
    found = np.asarray(answer(delta_m.copy(), at_home.copy()))
    if found.shape != (3,):
        raise WrongAnswer(f"one mean rank for each of 3 methods, not the shape {found.shape}")
    if np.allclose(found, 4 - mean_rank_away(delta_m, at_home)):
        raise WrongAnswer("rank 1 is the best method, that with the largest Δm")
    if np.allclose(found, rankdata(-delta_m, axis=0).mean(1)):
        raise WrongAnswer("a method's home doesn't count in its own mean")
    if not np.allclose(found, mean_rank_away(delta_m, at_home)):
        raise WrongAnswer(
            "rank all methods in each world, the one at home, too, and only then leave out the "
            "home of each method from its own mean"
        )


def standard_error(tau: float, sigma: float, worlds: int, seeds: int) -> float:
    """√(τ² / W + σ² / (W S))."""
    return (tau**2 / worlds + sigma**2 / (worlds * seeds)) ** 0.5


@exercise(
    "6.9.b",
    "Write the standard error of a mean difference over W worlds with S seeds each, where it "
    "varies between worlds with the standard deviation τ and between seeds with σ.",
    reference=standard_error,
    hints=(
        "The variance of a world's mean has two parts: the world's own, and that of its S seeds.",
        "The mean of W independent world means has the W-th part of their variance.",
    ),
)
def check_standard_error(answer: Callable[[float, float, int, int], float]) -> None:
    """Accept the standard error at several sizes."""
    for tau, sigma, worlds, seeds in ((3.0, 4.0, 12, 16), (0.0, 2.0, 4, 9), (5.0, 0.0, 25, 1)):
        found, expected = (
            answer(tau, sigma, worlds, seeds),
            standard_error(*(tau, sigma), worlds, seeds),
        )
        if np.isclose(found, expected):
            continue
        if np.isclose(found, expected**2):
            raise WrongAnswer("that is the variance: the standard error is its square root")
        if np.isclose(found, ((tau**2 + sigma**2) / (worlds * seeds)) ** 0.5):
            raise WrongAnswer(
                "more seeds do not average out how the worlds differ: τ² is divided by the worlds "
                "alone"
            )
        raise WrongAnswer(
            f"with τ = {tau:g}, σ = {sigma:g}, {worlds} worlds and {seeds} seeds it is "
            f"{expected:.3f}"
        )


prediction(
    "6.9.c",
    "The league is recorded with 64 seeds in the place of 16. By how much do the intervals of the "
    "mean Δm over worlds shrink?",
    choices=("to a quarter", "to half", "hardly"),
    answer="hardly",
    because="Hardly: seeds average out what differs between seeds, and that is already small. How "
    "the twelve worlds differ stays, and only more worlds would average it out.",
    hints=("Which of the two parts of 6.9.b do more seeds make smaller?",),
)
