"""Exercises of section 7.3, hints."""

import math
from collections.abc import Callable

from mtlbook.book.exercises import DIRECTIONS, WrongAnswer, exercise, prediction


def ratio(containing: int, texts: int, other_containing: int, other_texts: int) -> float:
    """The ratio p log(p / q), with the shares p and q of the texts of the two classes."""
    own, other = containing / texts, other_containing / other_texts
    return own * math.log(own / other)


@exercise(
    "7.3.a",
    "Write the weighted log-likelihood ratio r(w, y) of a word from four counts: of the class y's "
    "texts those that contain the word, and all; the same two of the other class's. No smoothing.",
    reference=ratio,
    hints=(
        "Two shares come first: p(w | y) and p(w | not y).",
        "The logarithm of their ratio, weighted by the first share.",
    ),
)
def check_ratio(answer: Callable[[int, int, int, int], float]) -> None:
    """Accept the ratio at equal and at unequal classes."""
    for counts in ((30, 100, 10, 100), (3, 10, 30, 50), (4, 200, 1, 40)):
        found, expected = float(answer(*counts)), ratio(*counts)
        share = counts[0] / counts[1]
        if math.isclose(found, expected / share):
            raise WrongAnswer("a rare word would win: weigh the logarithm by p(w | y)")
        if math.isclose(found, -expected):
            raise WrongAnswer("the own class stands above the bar")
        if not math.isclose(found, expected):
            raise WrongAnswer(
                "with shares p and q of the texts of each class, r = p log(p / q): the natural "
                "logarithm, and shares of texts, not counts"
            )


def pivot_beside(
    pivot_positive: float, pivot_negative: float, word_positive: float, word_negative: float
) -> float:
    """P(pivot | word) where both depend on the polarity alone, which is a fair draw."""
    both = pivot_positive * word_positive + pivot_negative * word_negative
    return both / (word_positive + word_negative)


@exercise(
    "7.3.b",
    "A positive pivot occurs in a share `pivot_positive` of the positive texts and in a share "
    "`pivot_negative` of the negative ones; a word of the target does so in `word_positive` and "
    "`word_negative`. Given the polarity, which is a fair draw, the two are independent. In which "
    "share of the texts with the word does the pivot stand, too?",
    reference=pivot_beside,
    hints=(
        "Bayes: how likely is a text with the word to be positive?",
        "P(pivot | word) = P(pivot | positive) P(positive | word) + the same for negative.",
    ),
)
def check_pivot_beside(answer: Callable[[float, float, float, float], float]) -> None:
    """Accept the share for words of either polarity and of none."""
    for rates in ((0.35, 0.06, 0.2, 0.08), (0.35, 0.06, 0.08, 0.2), (0.5, 0.1, 0.3, 0.3)):
        found = float(answer(*rates))
        together = (rates[0] * rates[2] + rates[1] * rates[3]) / 2
        if math.isclose(found, together) or math.isclose(found, 2 * together):
            raise WrongAnswer("that is how often both occur: divide by how often the word does")
        if math.isclose(found, (rates[0] + rates[1]) / 2) and rates[2] != rates[3]:
            raise WrongAnswer("the word says something about the polarity, and so about the pivot")
        if not math.isclose(found, pivot_beside(*rates)):
            raise WrongAnswer(
                "weigh the pivot's two shares by how likely a text with the word is positive, "
                "word_positive / (word_positive + word_negative), and how likely negative"
            )


prediction(
    "7.3.c",
    "The labels are now of the target's own texts: `world(page, labels=50, labels_of='target')`. "
    "What happens to the relative error reduction by hints as the labels grow from 50 to 800?",
    choices=DIRECTIONS,
    answer="falls",
    because="It falls, to nothing or below: 800 labels say themselves which of the target's words "
    "are positive, and a hint that is computed from the text knows nothing else.",
    hints=("Who else can say what polarity the target's own words have?",),
)
