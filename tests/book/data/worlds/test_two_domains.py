"""Two domains whose own words stand beside the common ones, or do not."""

import pytest
import torch

from mtlbook.book.data.worlds.two_domains import (
    OWN_RATES,
    PIVOT_RATES,
    WORDS,
    two_domains,
    words_of,
)
from mtlbook.errors import UsageError

ROWS = 40_000


def parts(together: float, rows: int = ROWS):
    data = two_domains(0, rows=rows, together=together).data
    words = data.inputs
    polarity, target = (data.targets[name][:, 0] == 1 for name in ("polarity", "domain"))
    return words, polarity, target


def occurrence(words, kind, rows, *, positive):
    """The mean occurrence of a kind's positive or negative words in some texts."""
    columns = torch.nonzero(words_of(kind))[:, 0]
    half = len(columns) // 2
    chosen = columns[half:] if positive else columns[:half]
    return float(words[rows][:, chosen].mean())


def test_the_columns_are_of_four_kinds():
    kinds = [words_of(kind) for kind in ("pivots", "source", "target", "neutral")]
    assert torch.stack(kinds).sum(0).tolist() == [1] * WORDS


def test_words_occur_as_often_as_is_said():
    words, polarity, target = parts(1.0)
    for domain, own in (("source", ~target), ("target", target)):
        for positive in (True, False):
            rows = own & (polarity == positive)
            assert occurrence(words, "pivots", rows, positive=positive) == pytest.approx(
                PIVOT_RATES.agreeing / 2, abs=0.01
            )
            assert occurrence(words, "pivots", rows, positive=not positive) == pytest.approx(
                PIVOT_RATES.other / 2, abs=0.01
            )
            assert occurrence(words, domain, rows, positive=positive) == pytest.approx(
                OWN_RATES.agreeing, abs=0.01
            )
            assert occurrence(words, domain, rows, positive=not positive) == pytest.approx(
                OWN_RATES.other, abs=0.01
            )
            assert occurrence(words, "neutral", rows, positive=positive) == pytest.approx(
                OWN_RATES.neutral, abs=0.01
            )


def test_a_domain_has_no_word_of_the_other():
    words, _, target = parts(0.5, rows=500)
    assert not words[target][:, words_of("source")].any()
    assert not words[~target][:, words_of("target")].any()


@pytest.mark.parametrize(("together", "share"), [(0.0, 0.0), (0.4, 0.4), (1.0, 1.0)])
def test_the_dial_is_how_often_own_words_stand_beside_pivots(together, share):
    """And with it alone: own words are as good a sign of the polarity wherever they stand."""
    words, polarity, target = parts(together)
    pivots = words[:, words_of("pivots")].any(1)
    own = words[:, words_of("target")].any(1)
    of_two = words[target & ~pivots][:, words_of("target")].any(1).double().mean()
    beside = float(own[target & pivots].double().mean())
    full = 1 - (1 - OWN_RATES.agreeing) ** 12 * (1 - OWN_RATES.other) ** 12
    assert beside == pytest.approx(share * full, abs=0.02)
    assert float(of_two) > 0.7
    has = target & own
    ratio = occurrence(words, "target", has & polarity, positive=True) / occurrence(
        words, "target", has & polarity, positive=False
    )
    assert ratio == pytest.approx(OWN_RATES.agreeing / OWN_RATES.other, abs=0.15)


def test_fewer_rows_are_the_first_and_seeds_differ():
    many, few = (two_domains(1, rows=rows, together=0.5).data for rows in (50, 20))
    assert torch.equal(few.inputs, many.inputs[:20])
    assert torch.equal(few.targets["polarity"], many.targets["polarity"][:20])
    assert not torch.equal(two_domains(2, rows=50).data.inputs, many.inputs)


@pytest.mark.parametrize("together", [-0.1, 1.5])
def test_a_dial_that_is_no_share_is_refused(together):
    with pytest.raises(UsageError, match="together is a share"):
        two_domains(0, rows=5, together=together)


def test_no_rows_are_refused():
    with pytest.raises(UsageError, match="rows must be at least 1"):
        two_domains(0, rows=0)
