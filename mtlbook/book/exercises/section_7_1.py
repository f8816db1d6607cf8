"""Exercises of section 7.1, a related task."""

from collections.abc import Callable
from math import isclose

from mtlbook.book.exercises import DIRECTIONS, WrongAnswer, exercise, prediction


def best_weight(spread: float, related_spread: float, cosine: float, related_rows: int) -> float:
    """λ* where the tasks' noise differs: s / (2(1 − ρ) n′ + s′)."""
    return spread / (2 * (1 - cosine) * related_rows + related_spread)


@exercise(
    "7.1.a",
    "The related task's noise may differ from the main task's: s = σ² d and s′ = σ′² d. Write the "
    "weight λ* of least risk, given s, s′, ρ and n′ (losses are summed over rows).",
    reference=best_weight,
    hints=(
        "The model is a weighted mean of two estimates, w from n rows and w′ from n′ rows.",
        "Weights in a mean go by the inverse risks: s / n, and s′ / n′ + 2(1 − ρ).",
        "λ n′ / n is the ratio of the weights: (s / n) / (s′ / n′ + 2(1 − ρ)).",
    ),
)
def check_best_weight(answer: Callable[[float, float, float, int], float]) -> None:
    """Accept the minimum of the risk."""
    for spread, related_spread, cosine, rows in (
        (20.0, 20.0, 0.7, 800),
        (20.0, 5.0, 1.0, 100),
        (5.0, 80.0, -0.2, 7),
    ):
        found = answer(spread, related_spread, cosine, rows)
        right = best_weight(spread, related_spread, cosine, rows)
        if isclose(found, right, rel_tol=1e-6):
            continue
        if cosine == 1.0 and isclose(found, 1.0):
            raise WrongAnswer("with equal tasks and unequal noise, rows of less noise count more")
        if isclose(found, right * rows, rel_tol=1e-6):
            raise WrongAnswer("that is the weight of all n′ rows together: divide by n′")
        raise WrongAnswer(
            f"at s = {spread:g}, s′ = {related_spread:g}, ρ = {cosine:g}, n′ = {rows} the risk is "
            f"not least at {found:.4g}: set its derivative by λ to 0"
        )


def rows_for_half(spread: float, cosine: float) -> float:
    """The n′ at which λ* n′ is half of its limit: s / (2(1 − ρ))."""
    return spread / (2 * (1 - cosine))


@exercise(
    "7.1.b",
    "Related rows with weight λ* are worth λ* n′ rows of the main task, never more than a limit. "
    "Write the number n′ at which they are worth half of that limit, given s and ρ < 1.",
    reference=rows_for_half,
    hints=(
        "λ* n′ = s n′ / (2(1 − ρ) n′ + s), and for n′ → ∞ it is s / (2(1 − ρ)).",
        "A fraction a n′ / (b n′ + a) is half of a / b where b n′ = a.",
    ),
)
def check_rows_for_half(answer: Callable[[float, float], float]) -> None:
    """Accept the number at which half of the limit is reached."""
    for spread, cosine in ((20.0, 0.7), (5.0, 0.0), (20.0, 0.99)):
        found = answer(spread, cosine)
        limit = spread / (2 * (1 - cosine))
        if isclose(found, limit / 2, rel_tol=1e-6):
            raise WrongAnswer("that is half of the limit itself, the worth: which n′ has it?")
        if found <= 0:
            raise WrongAnswer("a number of rows is positive")
        worth = found * spread / (2 * (1 - cosine) * found + spread)
        if not isclose(worth, limit / 2, rel_tol=1e-6):
            raise WrongAnswer(
                f"at s = {spread:g}, ρ = {cosine:g} your n′ = {found:.4g} is worth {worth:.4g} "
                f"rows, and half of the limit is {limit / 2:.4g}"
            )


prediction(
    "7.1.c",
    "Double the noise σ of both tasks; ρ = 0.7 and n′ = 800 stay. What happens to λ*?",
    choices=DIRECTIONS,
    answer="rises",
    because="It rises: the main task's own rows tell less, so that the bias which the related task "
    "brings weighs less beside the variance that it saves.",
    hints=("λ* balances the main task's variance with a bias. Which of the two depends on σ?",),
)
