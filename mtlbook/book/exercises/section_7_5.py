"""Exercises of section 7.5, quantisation smoothing."""

from collections.abc import Callable
from math import exp, isclose, pi

from scipy.stats import norm

from mtlbook.auxiliary.quantisation_smoothing import information_share
from mtlbook.book.exercises import DIRECTIONS, WrongAnswer, exercise, prediction


def share_kept(cut: float) -> float:
    """φ(c)² / (Φ(c) (1 − Φ(c)))."""
    below = float(norm.cdf(cut))
    return exp(-(cut**2)) / (2 * pi) / (below * (1 - below))


@exercise(
    "7.5.a",
    "The label says whether a standard normal quantity exceeds a cut c. Which share of the "
    "information about the quantity's mean does it keep? Write it as a function of c.",
    reference=share_kept,
    hints=(
        "A label that is 1 with probability π carries the information (dπ/dμ)² / (π (1 − π)).",
        "π = 1 − Φ(c − μ): its derivative at μ = 0 is the density φ(c).",
    ),
)
def check_share_kept(answer: Callable[[float], float]) -> None:
    """Accept the closed form of one cut."""
    for prevalence in (0.5, 0.25, 0.05):
        cut = float(norm.isf(prevalence))
        found, wanted = float(answer(cut)), information_share(prevalence)
        if isclose(found, wanted * prevalence * (1 - prevalence), rel_tol=1e-6):
            raise WrongAnswer("divide by the label's variance, π (1 − π)")
        if isclose(found, float(norm.pdf(cut)) / (prevalence * (1 - prevalence)), rel_tol=1e-6):
            raise WrongAnswer("information has the derivative squared")
        if not isclose(found, wanted, rel_tol=1e-6):
            raise WrongAnswer(f"at c = {cut:.2f} the share is {wanted:.3f}, not {found:.3f}")


def chance_above(prediction: float, cut: float, spread: float) -> float:
    """Φ((ẑ − τ) / σ)."""
    return float(norm.cdf((prediction - cut) / spread))


@exercise(
    "7.5.b",
    "A regression predicts ẑ, and z is normal about it with the standard deviation σ. Write the "
    "probability that z exceeds τ: a calibration that needs no label at all.",
    reference=chance_above,
    hints=(
        "How many standard deviations lies the prediction above the cut?",
        "scipy.stats.norm.cdf is Φ.",
    ),
)
def check_chance_above(answer: Callable[[float, float, float], float]) -> None:
    """Accept the probability, on both sides of the cut."""
    for mean, cut, spread in ((0.0, 1.0, 2.0), (3.0, 1.0, 0.5), (1.0, 1.0, 3.0)):
        found, wanted = float(answer(mean, cut, spread)), chance_above(mean, cut, spread)
        if isclose(found, 1 - wanted, abs_tol=1e-9) and not isclose(wanted, 0.5):
            raise WrongAnswer("that is the probability of lying below the cut")
        by_variance = float(norm.cdf((mean - cut) / spread**2))
        if isclose(found, by_variance, abs_tol=1e-9) and not isclose(found, wanted, abs_tol=1e-9):
            raise WrongAnswer("divide by the standard deviation, not by the variance")
        if not isclose(found, wanted, abs_tol=1e-6):
            raise WrongAnswer(
                f"with ẑ = {mean:g}, τ = {cut:g} and σ = {spread:g} it is {wanted:.3f}, not "
                f"{found:.3f}"
            )


prediction(
    "7.5.c",
    "The closed form is that of inputs that say little. Let them explain 80 % of the quantity's "
    "variance: information_share(0.1, explained=0.8). Does the share of information that the label "
    "keeps, on average over the inputs, fall, stay or rise?",
    choices=DIRECTIONS,
    answer="falls",
    because="It falls, from 0.34 to 0.14: most inputs put the quantity so far from the cut that "
    "its label is known beforehand, while its size is as uncertain as ever.",
    hints=("What does the label of an input tell you whose quantity is surely below the cut?",),
)

prediction(
    "7.5.d",
    "How many labels, cut at the median, say as much about a normal mean as 100 values of the "
    "quantity itself? Predict, then compute 100 / information_share(0.5).",
    answer=157.0,
    within=8.0,
    because="157: the label keeps 2/π = 0.64 of the information, so that cutting at the median "
    "is like throwing away a third of the data.",
    hints=("The share is φ(0)² / ¼ with φ(0) = 1/√(2π).",),
)
