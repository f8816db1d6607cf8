r"""Home of hints from pivots (section 7.3): two domains with common words and own words."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.data.synthetic import SyntheticDataset, check_counts, check_shares
from mtlbook.randomness import generator
from mtlbook.tasks import Task

# Words of each polarity, negative ones first: pivots, of the source alone, of the target alone.
PIVOTS, OWN = 4, 12
NEUTRAL = 24
WORDS = 2 * PIVOTS + 4 * OWN + NEUTRAL
POLARITY, DOMAIN = "polarity", "domain"


@dataclass(frozen=True)
class Rates:
    """How often a word occurs in a text that has words of its kind.

    Attributes:
        agreeing: whose polarity is the text's.
        other: whose polarity is not.
        neutral: without polarity.
    """

    agreeing: float
    other: float
    neutral: float = 0.1


PIVOT_RATES = Rates(agreeing=0.35, other=0.06)
OWN_RATES = Rates(agreeing=0.2, other=0.08)


def words_of(kind: str) -> Bool[Tensor, " words"]:
    """Which columns are `pivots`, `source` words, `target` words or `neutral`."""
    sizes = {"pivots": 2 * PIVOTS, "source": 2 * OWN, "target": 2 * OWN, "neutral": NEUTRAL}
    return torch.cat([torch.full((size,), kind == own) for own, size in sizes.items()])


def two_domains(
    seed: int,
    *,
    rows: int,
    tasks: tuple[str, str] = (POLARITY, DOMAIN),
    together: float = 1.0,
) -> SyntheticDataset:
    r"""Bags of words of two domains with the same two polarities.

    A text $x \in \{0, 1\}^{80}$ has a polarity $y$ and a domain, both fair draws. Half of all texts
    have *pivots*, words that both domains use; every text without them, and the share `together`
    of those with them, has *own* words, which only its domain uses. Of the words that a text may
    have, each occurs independently: with probability 0.35 (pivots) or 0.2 (own words) if its
    polarity is $y$, else with 0.06 or 0.08; neutral words with 0.1 in any text.

    Labels of the source say nothing about the target's own words. Where these stand beside pivots,
    the pivots do. At `together` 0 they never do, although they are as good a sign of the polarity
    as before: that is the negative control.

    Arguments:
        seed: of everything drawn.
        rows: texts, of both domains, all labelled; the first rows are the same for any number.
        tasks: the names of the polarity and of the domain (1 is the target).
        together: the dial, how often own words stand in a text that has pivots.

    Raises:
        UsageError: for no row, or a share outside of 0 to 1.

    Example:
        >>> made = two_domains(0, rows=6)
        >>> made.data.inputs.shape, made.data.targets["domain"].flatten().tolist()
        (torch.Size([6, 80]), [1.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    """
    check_counts(rows=rows)
    check_shares(together=together)

    def uniform(purpose: str, columns: int = 1) -> Float[Tensor, "rows columns"]:
        source = generator(seed, "two domains", purpose)
        return torch.rand(rows, columns, generator=source, dtype=torch.float64)

    positive, target = uniform("polarity") < 0.5, uniform("domain") < 0.5
    pivots = uniform("pivots") < 0.5
    own = ~pivots | (uniform("together") < together)
    parts = [
        _occurrence(PIVOTS, PIVOT_RATES, positive, pivots),
        _occurrence(OWN, OWN_RATES, positive, own & ~target),
        _occurrence(OWN, OWN_RATES, positive, own & target),
        torch.full((rows, NEUTRAL), OWN_RATES.neutral, dtype=torch.float64),
    ]
    words = (uniform("words", WORDS) < torch.cat(parts, dim=1)).double()
    polarity, domain = tasks
    data = MultiTaskData.multi_label(
        [Task.binary(polarity, metric="error rate"), Task.binary(domain, metric="error rate")],
        words,
        {polarity: positive.double(), domain: target.double()},
    )
    used = words_of("pivots") | words_of("source") | words_of("target")
    return SyntheticDataset(data, relevant={polarity: used})


def _occurrence(
    count: int,
    rates: Rates,
    positive: Bool[Tensor, "rows 1"],
    has: Bool[Tensor, "rows 1"],
) -> Float[Tensor, "rows words"]:
    """The probability of each word of a kind, `count` negative ones and as many positive."""
    of_word = torch.arange(2 * count) >= count
    agrees = torch.where(of_word == positive, rates.agreeing, rates.other)
    return torch.where(has, agrees.double(), 0.0)
