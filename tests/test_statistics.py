import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import permutation_test, t, ttest_1samp

from mtlbook.errors import UsageError
from mtlbook.statistics import (
    Effect,
    NegativeTransfer,
    contributions,
    control_effect,
    delta_m,
    effect,
    holm,
    interval,
    negative_transfer_index,
    paired_effect,
    verdict,
)

values = arrays(np.float64, 6, elements=st.integers(-1000, 1000).map(lambda whole: whole / 8))
p_values = arrays(np.float64, st.integers(1, 12), elements=st.floats(0, 1))


def test_the_effect_is_the_mean_difference_in_the_claimed_direction():
    method, baseline = np.array([1.0, 2.0, 6.0]), np.array([2.0, 4.0, 6.0])
    lower = paired_effect(method, baseline, higher_is_better=False)
    higher = paired_effect(method, baseline, higher_is_better=True)
    assert lower.estimate == 1.0
    assert higher.estimate == -1.0
    assert lower.seeds == 3


def test_a_relative_effect_is_in_percent_of_the_mean_baseline():
    method, baseline = np.array([0.9, 1.0]), np.array([1.0, 4.0])
    relative = paired_effect(method, baseline, higher_is_better=False, relative=True)
    absolute = paired_effect(method, baseline, higher_is_better=False)
    assert relative.estimate == pytest.approx(100 * 3.1 / 5)
    assert relative.p == absolute.p


@pytest.mark.parametrize("higher_is_better", [False, True])
def test_contributions_have_the_effect_as_their_mean_and_its_jackknife_variance(higher_is_better):
    random = np.random.default_rng(5)
    baseline = random.uniform(2, 3, 400)
    method = 0.8 * baseline + random.normal(0, 0.2, 400)
    own = {"higher_is_better": higher_is_better, "relative": True}
    shares = contributions(method, baseline, **own)
    difference = (1 if higher_is_better else -1) * (method - baseline)
    assert shares.mean() == pytest.approx(100 * difference.mean() / baseline.mean())
    without = np.array(
        [100 * np.delete(difference, i).mean() / np.delete(baseline, i).mean() for i in range(60)]
    )
    # Leaving a seed out moves the ratio by what the seed contributes, up to terms of order 1/n².
    expected = (400 * shares.mean() - shares[:60]) / 399
    np.testing.assert_allclose(without, expected, atol=2e-4)


def test_contributions_to_an_absolute_effect_are_the_differences():
    method, baseline = np.array([1.0, 2.0, 6.0]), np.array([2.0, 4.0, 6.0])
    np.testing.assert_array_equal(
        contributions(method, baseline, higher_is_better=False), [1.0, 2.0, 0.0]
    )


def test_a_control_is_the_difference_of_the_two_effects_paired_by_seed():
    random = np.random.default_rng(0)
    common = random.normal(0, 5, 16)  # what a seed does to both halves
    found = control_effect(common + 3 + random.normal(0, 0.1, 16), common)
    assert found.estimate == pytest.approx(3, abs=0.2)
    assert found.high - found.low < 0.5
    with pytest.raises(UsageError, match="16 seeds with the mechanism on, 8 with it off"):
        control_effect(common, common[:8])


def test_one_baseline_near_0_does_not_decide_a_relative_effect():
    method, baseline = np.array([0.5, 0.6, 0.7, 0.8]), np.array([1.0, 1.2, 1e-9, 1.6])
    relative = paired_effect(method, baseline, higher_is_better=False, relative=True)
    assert abs(relative.estimate) < 100


def test_the_interval_of_a_relative_effect_knows_that_both_sides_vary_together():
    # Where every seed gains the same share, the share is certain however the baselines vary.
    baseline = np.array([1.0, 2.0, 3.0, 10.0])
    same = paired_effect(0.8 * baseline, baseline, higher_is_better=False, relative=True)
    assert (same.low, same.high) == pytest.approx((20.0, 20.0))
    # And where the baselines are all alike, the interval is that of the differences.
    method, level = np.array([3.0, 2.5, 3.5, 2.8, 3.3]), np.full(5, 4.0)
    relative = paired_effect(method, level, higher_is_better=False, relative=True)
    absolute = paired_effect(method, level, higher_is_better=False)
    assert (relative.low, relative.high) == pytest.approx((25 * absolute.low, 25 * absolute.high))


def test_a_relative_effect_of_a_negative_baseline_keeps_its_direction():
    method, baseline = np.array([-0.5, -0.5]), np.array([-1.0, -1.0])
    assert paired_effect(method, baseline, higher_is_better=True, relative=True).estimate == 50


def test_a_relative_effect_refuses_a_baseline_of_mean_0():
    with pytest.raises(UsageError, match="mean is not 0"):
        paired_effect(np.ones(2), np.array([-1.0, 1.0]), higher_is_better=True, relative=True)


@pytest.mark.parametrize("seeds", [2, 5, 9])
def test_the_p_value_is_that_of_all_sign_patterns(seeds):
    differences = np.random.default_rng(seeds).normal(0.4, 1, seeds)
    signs = np.array(list(itertools.product([-1, 1], repeat=seeds)))
    means = np.abs((signs * differences).mean(axis=1))
    expected = (means >= abs(differences.mean()) - 1e-12).mean()
    assert effect(differences).p == pytest.approx(expected)


def test_the_p_value_of_many_seeds_is_never_0_and_is_reproducible():
    differences = 1 + np.random.default_rng(0).uniform(size=40)
    assert 0 < effect(differences).p < 1e-4
    assert effect(differences) == effect(differences)


def test_p_values_under_no_effect_are_uniform():
    random = np.random.default_rng(0)
    p = np.array([effect(random.normal(size=8)).p for _ in range(400)])
    for level in (0.05, 0.25, 0.5, 0.75):
        assert (p <= level).mean() == pytest.approx(
            level, abs=3 * (level * (1 - level) / 400) ** 0.5
        )


@given(arrays(np.float64, st.integers(2, 40), elements=st.floats(-10, 10, width=16)))
def test_the_interval_is_the_librarys_t_interval(sample):
    if np.ptp(sample) <= 1e-9:
        return
    expected = ttest_1samp(sample, 0).confidence_interval(0.95)
    assert interval(sample) == pytest.approx(tuple(expected), rel=1e-9, abs=1e-9)


def test_the_interval_of_a_worked_example():
    # Mean 3, standard deviation √2.5, and the table's 2.776 for 4 degrees of freedom.
    half = 2.776445 * (2.5 / 5) ** 0.5
    assert interval(np.arange(1.0, 6.0)) == pytest.approx((3 - half, 3 + half), rel=1e-6)
    assert t.ppf(0.975, 4) == pytest.approx(2.776445, rel=1e-6)


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.3])
def test_equal_differences_have_an_interval_of_one_point(constant):
    result = effect(np.full(7, constant))
    assert result.low == result.high == result.estimate == pytest.approx(constant)
    assert result.p == pytest.approx(1.0 if constant == 0 else 2 / 2**7)


@pytest.mark.parametrize(
    ("differences", "message"),
    [([1.0], "at least 2 seeds"), ([1.0, float("nan"), 2.0, float("inf")], r"positions \[1, 3\]")],
)
def test_differences_that_have_no_interval_are_refused(differences, message):
    with pytest.raises(UsageError, match=message):
        effect(np.array(differences))


@given(values, values)
def test_swapping_method_and_baseline_flips_the_effect(method, baseline):
    forth = paired_effect(method, baseline, higher_is_better=True)
    back = paired_effect(baseline, method, higher_is_better=True)
    assert back.estimate == -forth.estimate
    assert back.p == forth.p
    scale = 1 + np.abs(method - baseline).max()
    assert (back.low, back.high) == pytest.approx((-forth.high, -forth.low), abs=1e-9 * scale)


@given(values)
def test_the_estimate_lies_in_its_interval(differences):
    result = effect(differences)
    assert result.low <= result.estimate + 1e-9
    assert result.high >= result.estimate - 1e-9


@pytest.mark.parametrize(
    ("low", "estimate", "high", "expected"),
    [
        (1.0, 3.0, 5.0, "supported"),
        (0.1, 2.0, 4.0, "supported"),  # exactly the smallest effect
        (0.1, 0.5, 1.9, "negligible"),  # clearly above 0, and too small to matter
        (-1.9, 0.0, 1.9, "negligible"),
        (-2.0, 0.0, 1.9, "refuted"),  # the bounds themselves are not inside: harm is possible
        (-1.9, 0.0, 2.0, "undecided"),
        (0.1, 1.9, 2.5, "slight"),  # above 0, but is it large enough?
        (0.0, 3.0, 5.0, "undecided"),
        (-5.0, -3.0, -1.0, "harmful"),
        (-4.0, -2.0, -0.1, "harmful"),
        (-2.5, -1.9, -0.1, "refuted"),
    ],
)
def test_the_verdict_follows_the_rule(low, estimate, high, expected):
    assert verdict(Effect(estimate, low, high, 0.5, 8), 2.0) == expected
    assert verdict(Effect(estimate, low, high, 0.5, 7), 2.0) == "too few seeds"


@pytest.mark.parametrize(
    ("low", "estimate", "high", "expected"),
    [
        (1.0, 3.0, 5.0, "passed"),
        (0.1, 0.5, 1.9, "passed"),  # above 0, however small
        (-1.0, 0.5, 1.9, "failed"),
        (-9.0, -5.0, -1.0, "failed"),
        (-1.0, 1.0, 2.0, "undecided"),
    ],
)
def test_the_verdict_of_a_control_is_that_of_the_difference(low, estimate, high, expected):
    assert verdict(Effect(estimate, low, high, 0.5, 8), 2.0, control=True) == expected


def test_a_smallest_effect_of_0_is_refused():
    with pytest.raises(UsageError, match="above 0"):
        verdict(Effect(1.0, 0.5, 1.5, 0.5, 8), 0.0)


intervals = st.tuples(*[st.integers(-80, 80).map(lambda whole: whole / 8)] * 3).map(sorted)
smallest_effects = st.integers(1, 80).map(lambda whole: whole / 8)


@given(intervals, smallest_effects)
def test_the_opposite_of_support_is_harm_and_of_negligible_negligible(ends, smallest):
    low, estimate, high = ends
    forth = verdict(Effect(estimate, low, high, 0.5, 8), smallest)
    back = verdict(Effect(-estimate, -high, -low, 0.5, 8), smallest)
    swapped = {"supported": "harmful", "harmful": "supported", "negligible": "negligible"}
    if forth in swapped:
        assert back == swapped[forth]


@given(intervals, smallest_effects, st.integers(0, 80).map(lambda whole: whole / 8))
def test_a_larger_effect_keeps_support_and_a_stricter_bar_keeps_negligible(ends, smallest, more):
    low, estimate, high = ends
    before = verdict(Effect(estimate, low, high, 0.5, 8), smallest)
    if before == "supported":
        moved = Effect(estimate + more, low + more, high + more, 0.5, 8)
        assert verdict(moved, smallest) == "supported"
    if before == "negligible":
        assert verdict(Effect(estimate, low, high, 0.5, 8), smallest + more) == "negligible"


def test_holm_of_a_worked_example():
    # Four tests: 4 × 0.005, 3 × 0.01, 2 × 0.03, and the 0.04 which can't go below its predecessor.
    corrected = holm(np.array([0.01, 0.04, 0.03, 0.005]))
    np.testing.assert_allclose(corrected, [0.03, 0.06, 0.06, 0.02])


@given(p_values, st.integers(0, 2**31))
def test_holm_lies_between_no_correction_and_bonferroni_and_ignores_the_order(p, seed):
    corrected = holm(p)
    assert (corrected >= p).all()
    assert (corrected <= np.minimum(1, len(p) * p)).all()
    shuffle = np.random.default_rng(seed).permutation(len(p))
    np.testing.assert_array_equal(holm(p[shuffle]), corrected[shuffle])


def test_holm_keeps_the_rate_of_any_false_rejection():
    p = np.random.default_rng(0).uniform(size=(4000, 5))
    rejected = np.mean([(holm(row) <= 0.05).any() for row in p])
    assert rejected == pytest.approx(0.05, abs=0.011)


def test_holm_of_no_claims_is_empty():
    assert holm(np.array([])).shape == (0,)


def test_delta_m_averages_the_relative_improvement_over_tasks():
    # An accuracy that rises by a tenth, an error that rises by a fifth, an error that halves.
    method, baseline = np.array([[0.55, 1.2, 2.0]]), np.array([[0.5, 1.0, 4.0]])
    np.testing.assert_allclose(
        delta_m(method, baseline, [True, False, False]), [(10 - 20 + 50) / 3]
    )


def test_delta_m_does_not_depend_on_the_units_of_the_metrics():
    random = np.random.default_rng(0)
    method, baseline = random.uniform(1, 2, (2, 5, 3))
    better = [True, False, True]
    units = np.array([1.0, 1000.0, 0.01])
    np.testing.assert_allclose(
        delta_m(method * units, baseline * units, better), delta_m(method, baseline, better)
    )


def test_negative_transfer_counts_the_pairs_that_lose_and_how_much():
    method = np.array([[1.1, 0.8], [0.9, 1.5], [1.0, 1.0]])
    index = negative_transfer_index(method, np.ones((3, 2)), [True, False])
    # Losses: the first task of seed 2 by 10 %, the second (an error) of seed 2 by 50 %.
    assert index.share == pytest.approx(2 / 6)
    assert index.loss == pytest.approx(30)


def test_without_a_loss_there_is_no_negative_transfer():
    index = negative_transfer_index(np.full((3, 2), 2.0), np.ones((3, 2)), [True, True])
    assert index == NegativeTransfer(share=0.0, loss=0.0)


def exact_p(numbers: list[int]) -> float:
    """The sign-flip p-value in whole numbers, which have no rounding."""
    observed = abs(sum(numbers))
    flips = itertools.product([-1, 1], repeat=len(numbers))
    sums = [sum(s * d for s, d in zip(signs, numbers, strict=True)) for signs in flips]
    return min(1.0, 2 * sum(total >= observed for total in sums) / len(sums))


coarse = st.lists(st.integers(-6, 6), min_size=2, max_size=9)


@given(coarse)
def test_the_p_value_on_a_grid_of_halves_is_scipys(numbers):
    differences = np.array(numbers) / 2
    library = permutation_test((differences,), np.mean, permutation_type="samples")
    assert effect(differences).p == pytest.approx(library.pvalue, abs=1e-12)


@given(coarse, st.sampled_from([0.1, 0.7, 1 / 3, 1e-9, 1e7]))
def test_ties_of_a_grid_that_binary_numbers_do_not_hold_are_ties(numbers, step):
    # Sums of tenths that are 0 come out as 1e-17: next to them a relative tolerance is none.
    assert effect(step * np.array(numbers)).p == exact_p(numbers)


def test_ties_count_among_drawn_patterns_too():
    numbers = np.resize([1, -2, 1], 18)
    assert effect(0.1 * numbers).p == effect(1.0 * numbers).p == 1.0


@given(arrays(np.float64, st.integers(2, 12), elements=st.floats(-10, 10, width=16)))
def test_all_sign_patterns_give_the_p_value_of_a_library(differences):
    library = permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=2**16, vectorized=True
    )
    assert effect(differences).p == pytest.approx(library.pvalue, abs=1e-12)


@pytest.mark.parametrize("seeds", [3, 7, 10, 16])
@pytest.mark.parametrize("relative", [False, True])
def test_where_all_seeds_agree_the_interval_is_the_estimate(seeds: int, relative: bool):
    """To the last digit: a figure takes the estimate from the ends of its interval."""
    baseline = np.full(seeds, 1.1)
    found = paired_effect(baseline - 0.1, baseline, higher_is_better=False, relative=relative)
    assert found.low == found.estimate == found.high
