r"""Section 7.3, hints: auxiliary labels that are computed from the text itself, for free.

Does a text contain a *positive*, does it contain a *negative* domain-independent word? These two
questions answer themselves on any text, also on unlabelled text of another domain (Yu and Jiang,
2016; Ruder, 2017, section 7.3):

    h₊(x) = [x contains a word of P₊],    h₋(x) = [x contains a word of P₋].

The words P₊ and P₋, the *pivots*, are those with the largest weighted log-likelihood ratio among
labelled training texts,

    r(w, y) = p(w | y) log (p(w | y) / p(w | not y)),

that also occur in the other domain. The hints are predicted from the text *without* the pivots,
x ∖ P, by the same trunk f that reads the whole text for the main task:

    L = L_main(g(f(x)), y) + λ L_hint(k(f(x ∖ P)), h(x)).

A text thus enters twice, as a row with the label and as a row with the hints. To a linear model a
hint that it can see is an input copied to an output; a masked one is a guess at what the rest of
the text says about the pivots, which is what other words learn their polarity from.

**Where it fails.** Hints teach nothing about words that do not stand beside pivots. Pivots that
change their meaning in the other domain teach the wrong thing, and nothing on the labelled side
notices. A pivot that overlaps with other features, as a character n-gram does, is not masked by
removing its own column: mask the text and count anew (`masked_text`).

Two texts over four words, of which the first is a positive pivot and the last a negative one:

    >>> words = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    >>> pivots = Pivots(positive=(0,), negative=(3,))
    >>> inputs, targets = hint_rows(words, pivots)
    >>> inputs.tolist(), targets.tolist()
    ([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]])
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from mtlbook.errors import UsageError

SIDES = ("negative", "positive")


@dataclass(frozen=True)
class Pivots:
    """The columns of the domain-independent words.

    Attributes:
        positive: those that speak for the label 1.
        negative: those that speak for the label 0.

    Raises:
        UsageError: for a side without words, or a word on both sides.
    """

    positive: tuple[int, ...]
    negative: tuple[int, ...]

    def __post_init__(self) -> None:
        for side in SIDES:
            if not getattr(self, side):
                raise UsageError(
                    f"There is no {side} pivot, and its hint would be constant: lower `least`, or "
                    "give more labelled texts."
                )
        both = sorted(set(self.positive) & set(self.negative))
        if both:
            raise UsageError(f"The words {both} are pivots of both sides: keep each on one.")

    @property
    def columns(self) -> tuple[int, ...]:
        """All pivots, in the order of the columns."""
        return tuple(sorted((*self.positive, *self.negative)))


def log_likelihood_ratios(
    words: Float[Tensor, "texts words"], labels: Shaped[Tensor, "labels ..."]
) -> Float[Tensor, "2 words"]:
    """The weighted log-likelihood ratio r(w, y) of each word, for the labels 0 and 1.

    p(w | y) is the share of a class's texts that contain the word, with one text added that does
    and one that does not.

    Arguments:
        words: counts or weights, 0 where a text does not contain a word.
        labels: 0 or 1.

    Raises:
        UsageError: for labels that are not 0 and 1, both of them, one a text.

    Example:
        >>> words = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
        >>> log_likelihood_ratios(words, torch.tensor([1, 1, 0, 0]))[1]
        tensor([0.8240, 0.0000], dtype=torch.float64)
    """
    own = labels.reshape(-1)
    if len(own) != len(words) or not set(own.unique().tolist()) == {0, 1}:
        raise UsageError(
            f"Pivots are chosen by labels 0 and 1, both of them and one a text: {len(own)} labels "
            f"with the values {own.unique().tolist()[:5]} for {len(words)} texts are not."
        )
    present = (words > 0).to(torch.float64)
    shares = [(present[own == y].sum(0) + 1) / ((own == y).sum() + 2) for y in (0, 1)]
    ratio = (shares[1] / shares[0]).log()
    return torch.stack([-shares[0] * ratio, shares[1] * ratio])


def select_pivots(
    words: Float[Tensor, "texts words"],
    labels: Shaped[Tensor, "labels ..."],
    count: int,
    *,
    elsewhere: Float[Tensor, "others words"] | None = None,
    least: float = 0.01,
) -> Pivots:
    """The words that say most about the label and occur in both domains.

    Arguments:
        words: of the *labelled training* texts, 0 where a text does not contain a word. Validation
            and test texts have no say.
        labels: of these texts, 0 or 1.
        count: pivots of each side; fewer where there are not as many with a ratio above 0.
        elsewhere: unlabelled training texts of the other domain.
        least: the share of the texts of each domain that contain a pivot, at least.

    Raises:
        UsageError: for an impossible count, or a side that no word qualifies for.

    Example:
        >>> words = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        >>> select_pivots(words, torch.tensor([1, 1, 0]), 1)
        Pivots(positive=(0,), negative=(2,))
    """
    if count < 1:
        raise UsageError(f"count is the number of pivots of each side, at least 1, not {count}.")
    ratios = log_likelihood_ratios(words, labels)
    common = (words > 0).double().mean(0) >= least
    if elsewhere is not None:
        common &= (elsewhere > 0).double().mean(0) >= least
    found: list[tuple[int, ...]] = []
    for own in ratios:
        scores = torch.where(common, own, 0)
        best = torch.argsort(scores, descending=True, stable=True)[:count]
        found.append(tuple(sorted(best[scores[best] > 0].tolist())))
    return Pivots(positive=found[1], negative=found[0])


def hint_labels(words: Float[Tensor, "texts words"], pivots: Pivots) -> Float[Tensor, "texts 2"]:
    """1 where a text contains a positive pivot, and where it contains a negative one.

    Raises:
        UsageError: for a hint that is the same for all texts.
    """
    sides = [words[:, list(own)] for own in (pivots.positive, pivots.negative)]
    hints = torch.stack([(own > 0).any(1) for own in sides], dim=1)
    for side, column in zip(reversed(SIDES), hints.T, strict=True):
        if bool((column == column[:1]).all()):
            which = "Every text contains" if bool(column.any()) else "No text contains"
            raise UsageError(
                f"{which} a {side} pivot: a constant hint teaches nothing; choose other pivots or "
                "give more texts."
            )
    return hints.to(words.dtype)


def without_pivots(
    words: Float[Tensor, "texts words"], pivots: Pivots
) -> Float[Tensor, "texts words"]:
    """The texts without the pivots: x ∖ P."""
    masked = words.clone()
    masked[:, list(pivots.columns)] = 0
    return masked


def hint_rows(
    words: Float[Tensor, "texts words"], pivots: Pivots, *, masked: bool = True
) -> tuple[Float[Tensor, "texts words"], Float[Tensor, "texts 2"]]:
    """Inputs and targets of the hint task, for `MultiTaskData.several` or a loop of your own.

    Arguments:
        words: texts of any domain, labelled or not.
        pivots: the domain-independent words.
        masked: False leaves the pivots in the inputs: the hint can then be read off.

    Raises:
        UsageError: for a hint that is the same for all texts.
    """
    inputs = without_pivots(words, pivots) if masked else words
    return inputs, hint_labels(words, pivots)


def masked_text(text: str, pivots: Sequence[str], placeholder: str = " ") -> str:
    """A text whose pivots are replaced, the longest first, before it is cut into features.

    Character n-grams overlap: without the feature "jo", "joy" still has "oy". What is counted in
    the masked text knows of no letter of a pivot.

    Arguments:
        text: as it is.
        pivots: strings.
        placeholder: what stands in their place.

    Raises:
        UsageError: for no pivot, or an empty one.

    Example:
        >>> masked_text("what a joy, joyful", ["joy"], "_")
        'what a _, _ful'
    """
    if not pivots or not all(pivots):
        raise UsageError("Name at least one pivot to mask, and none that is empty.")
    longest_first = sorted(pivots, key=lambda pivot: (-len(pivot), pivot))
    return re.sub("|".join(map(re.escape, longest_first)), placeholder, text)


def check_vocabulary(
    training: Float[Tensor, "texts words"],
    test: Float[Tensor, "others words"],
    names: Sequence[str] | None = None,
) -> None:
    """Refuse a vocabulary that knows words of the test texts which no training text contains.

    Such a vocabulary was made with the test texts, or from them. (One that was made with test
    texts, of words that all occur in training, too, leaves no trace and cannot be detected.)

    Arguments:
        training: all texts that training may see, labelled or not.
        test: those that it may not.
        names: of the columns, for the message.

    Raises:
        UsageError: where a word occurs in test texts alone, with the words named.

    Example:
        >>> check_vocabulary(torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 1.0]]))
    """
    unseen = torch.nonzero(~(training > 0).any(0) & (test > 0).any(0))[:, 0].tolist()
    if unseen:
        known = [names[int(one)] if names else f"column {one}" for one in unseen[:5]]
        more = f" and {len(unseen) - 5} more" if len(unseen) > 5 else ""
        raise UsageError(
            f"The vocabulary was made from test text: {', '.join(known)}{more} occur in no "
            "training text. Make the vocabulary from training texts, labelled or not."
        )
