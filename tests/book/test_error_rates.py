"""The book's intervals and verdicts are as often right as it says."""

import numpy as np
import pytest

from mtlbook.book import error_rates
from mtlbook.book.error_rates import DIFFERENCES, coverage, supported, verdicts
from mtlbook.statistics import interval


@pytest.mark.parametrize("name", DIFFERENCES)
def test_differences_have_mean_0_and_variance_1(name: str) -> None:
    values = DIFFERENCES[name](np.random.default_rng(0), (1_000, 1_000))
    assert abs(values.mean()) < 0.01
    assert 0.9 < values.var() < 1.1


@pytest.mark.parametrize("seeds", [16, 64])
def test_the_simulated_interval_is_the_books(seeds: int) -> None:
    generator = np.random.default_rng([seeds, *b"normal"])
    values = DIFFERENCES["normal"](generator, (5, seeds)) / error_rates._half_width(1.0, 16)
    mean, half = error_rates._intervals("normal", seeds, 5)
    wanted = [interval(one) for one in values]
    np.testing.assert_allclose(np.stack([mean - half, mean + half], axis=1), wanted)


def test_intervals_cover_the_truth_as_often_as_the_book_says() -> None:
    table = coverage(draws=8_000)
    limits = {
        "normal": [(0.942, 0.958), (0.942, 0.958)],
        "heavy tails (t₃)": [(0.947, 0.970), (0.942, 0.966)],
        "skewed (lognormal, σ = 0.5)": [(0.912, 0.936), (0.930, 0.950)],
        "very skewed (lognormal, σ = 1)": [(0.845, 0.880), (0.890, 0.920)],
    }
    assert list(table.index) == list(limits)
    for name, shares in table.to_dict("index").items():
        for (low, high), share in zip(limits[str(name)], shares.values(), strict=True):
            assert low < share < high


def test_a_claim_is_falsely_supported_as_often_as_the_book_says() -> None:
    shares = supported(verdicts(draws=3_000)).to_dict("index")
    normal = shares["normal"]
    assert 0.006 < normal["16 seeds, 0"] < 0.022
    assert normal["64 seeds, 0"] < 0.002
    assert 0.09 < normal["16 seeds, 0.5 δ"] < 0.16
    assert 0.008 < normal["64 seeds, 0.5 δ"] < 0.030
    for one in shares.values():
        assert one["16 seeds, 0"] < 0.03
        assert one["64 seeds, 0"] < 0.003
        assert one["64 seeds, 0.5 δ"] < 0.05
        # Just below δ the best estimate lies above it about as often as below.
        assert 0.4 < one["64 seeds, 0.99 δ"] < 0.6


def test_where_a_page_is_too_imprecise_the_interval_alone_decides() -> None:
    shares = supported(verdicts(effects=[0.0], half_width=3.0, draws=4_000)).to_dict("index")
    for seeds in (16, 64):
        assert 0.016 < shares["normal"][f"{seeds} seeds, 0"] < 0.034  # half of 5 %
    # Where the rare differences are losses, few seeds miss them.
    skewed = shares["very skewed the other way (σ = 1)"]
    assert 0.08 < skewed["16 seeds, 0"] < 0.18
    assert 0.04 < skewed["64 seeds, 0"] < 0.12


def test_every_experiment_gets_one_verdict() -> None:
    table = verdicts(effects=(-2.0, 0.0, 2.0), draws=200)
    shares = table.pivot_table("share", ["differences", "seeds", "effect"], aggfunc="sum")
    np.testing.assert_allclose(shares["share"], 1)
    assert shares.shape[0] == len(DIFFERENCES) * 2 * 3
    normal = table.query("seeds == 64 and differences == 'normal'").sort_values("share")
    assert dict(zip(normal["effect"], normal["verdict"], strict=True)) == {
        -2.0: "harmful", 0.0: "negligible", 2.0: "supported",
    }  # fmt: skip
