"""Effects, intervals and verdicts: how the book decides whether a claim holds.

Everything is paired over seeds: one seed gives a method and its baseline the same data and the
same split, so that their difference is what the method changes. No estimate is reported without
its interval, as Agarwal, Schwarzer, Castro, Courville and Bellemare ask for (*Deep reinforcement
learning at the edge of the statistical precipice*, NeurIPS 2021).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from mtlbook.errors import UsageError

Verdict = Literal[
    "supported",
    "slight",
    "negligible",
    "undecided",
    "refuted",
    "harmful",
    "passed",
    "failed",
    "too few seeds",
]

CONFIDENCE = 0.95
LEAST_SEEDS = 8  # With fewer, an interval is too wide or too lucky to judge by.
SIGN_FLIPS = 65_536  # 2^16: every sign pattern of up to 16 seeds
_TIE = 1e-13  # Means that differ by less, in units of the largest difference, are equal.


@dataclass(frozen=True)
class Effect:
    """A paired effect over seeds; positive is in the claimed direction.

    `low` and `high` are the ends of the 95 % interval and `p` is the two-sided p-value of no
    effect; `estimate`, `low` and `high` have the unit of the differences.
    """

    estimate: float
    low: float
    high: float
    p: float
    seeds: int


@dataclass(frozen=True)
class NegativeTransfer:
    """How often, and by how much, a method loses against single-task training.

    `share` is the fraction of the seed × task pairs in which the method is worse; `loss` is the
    mean loss in those pairs, in percent of the single-task metric (0 where no pair loses).
    """

    share: float
    loss: float


def paired_effect(
    method: Float[np.ndarray, "seeds"],
    baseline: Float[np.ndarray, "seeds"],
    *,
    higher_is_better: bool,
    relative: bool = False,
) -> Effect:
    """The effect of a method against its baseline, paired by seed; positive = method better.

    With s = 1 if higher is better and −1 otherwise, the difference of seed i is
    dᵢ = s (mᵢ − bᵢ), and the effect is its mean d̄, in the unit of the metric, or with `relative`
    100 d̄ / |b̄|, in percent of the mean baseline. (The mean of the seeds' own percentages would
    depend on the one seed whose baseline happens to lie near 0.) The interval is that of
    :func:`contributions`; the p-value is that of the differences.

    Example:
        >>> error, baseline = np.array([0.9, 1.8, 2.7]), np.array([1.0, 2.0, 3.0])
        >>> effect = paired_effect(error, baseline, higher_is_better=False, relative=True)
        >>> round(effect.estimate, 6), effect.p, effect.seeds
        (10.0, 0.25, 3)
    """
    shares = contributions(method, baseline, higher_is_better=higher_is_better, relative=relative)
    p = _sign_flip_p(_improvement(method, baseline, np.asarray(higher_is_better)))
    return Effect(float(shares.mean()), *interval(shares), p, len(shares))


def contributions(
    method: Float[np.ndarray, "seeds"],
    baseline: Float[np.ndarray, "seeds"],
    *,
    higher_is_better: bool,
    relative: bool = False,
) -> Float[np.ndarray, "seeds"]:
    """What each seed contributes to a paired effect: values whose mean is the effect.

    They are the differences dᵢ, or with `relative` the linearised ratio of the delta method,
    (100 / |b̄|) (dᵢ − (d̄ / b̄) (bᵢ − b̄)), whose standard error is that of 100 d̄ / |b̄|.

    Raises:
        UsageError: for fewer than two seeds, a value that is not finite, or a relative effect
            whose baseline has mean 0.
    """
    difference = _checked(_improvement(method, baseline, np.asarray(higher_is_better)))
    if not relative:
        return difference
    level = baseline.mean()
    if abs(level) <= 1e-12 * np.abs(baseline).max():
        raise UsageError(
            "a relative effect needs a baseline whose mean is not 0; "
            "compare in the metric's own unit (relative = false) instead"
        )
    return 100 / abs(level) * (difference - difference.mean() / level * (baseline - level))


def control_effect(on: Float[np.ndarray, "seeds"], off: Float[np.ndarray, "others"]) -> Effect:
    """The effect with the mechanism on minus that with it off, paired by seed.

    Arguments:
        on: what each seed contributes to the effect where the mechanism is present.
        off: the same where it is switched off, in the same unit; see :func:`contributions`.
    """
    if len(on) != len(off):
        raise UsageError(f"unpaired: {len(on)} seeds with the mechanism on, {len(off)} with it off")
    return effect(on - off)


def effect(differences: Float[np.ndarray, "seeds"]) -> Effect:
    """The mean of paired differences with its t interval and its sign-flip p-value.

    The p-value is two-sided: under no effect every dᵢ is as likely as −dᵢ. All 2ⁿ sign patterns
    are enumerated up to 16 seeds; beyond, 65,536 are drawn by a fixed generator and the observed
    one is counted among them, so that p is never 0.

    Raises:
        UsageError: for fewer than two seeds, or a value that is not finite.

    Example:
        >>> effect(np.array([1.0, 2.0, 3.0, 4.0])).p  # 2 of the 16 sign patterns
        0.125
    """
    differences = _checked(differences)
    low, high = interval(differences)
    p = _sign_flip_p(differences)
    return Effect(float(differences.mean()), low, high, p, len(differences))


def _sign_flip_p(differences: Float[np.ndarray, "seeds"]) -> float:
    """The two-sided p-value of a mean difference of 0, by flipping the differences' signs."""
    observed = differences.mean()
    if 2 ** len(differences) <= SIGN_FLIPS:
        # SciPy would build all patterns again for each of a page's effects.
        null = _sign_patterns(len(differences)) @ differences / len(differences)
        drawn = 0
    else:
        null = stats.permutation_test(
            (differences,),
            np.mean,
            permutation_type="samples",
            vectorized=True,
            n_resamples=SIGN_FLIPS,
            rng=np.random.default_rng(0),
        ).null_distribution
        drawn = 1  # The observed pattern counts as one that was drawn.
    # Equal sums of differences differ by rounding that has the scale of the differences: next to
    # an observed mean near 0 a relative tolerance alone, such as SciPy's, misses the ties.
    tie = _TIE * np.abs(differences).max()
    sides = (null >= observed - tie).sum(), (null <= observed + tie).sum()
    return float(min(1.0, 2 * (min(sides) + drawn) / (len(null) + drawn)))


@cache
def _sign_patterns(seeds: int) -> Float[np.ndarray, "patterns seeds"]:
    """All 2ⁿ ways to give n differences a sign."""
    numbers = np.arange(2**seeds)[:, None]
    return 1.0 - 2.0 * (numbers >> np.arange(seeds) & 1)


def interval(values: Float[np.ndarray, "seeds"]) -> tuple[float, float]:
    """The 95 % t interval of a mean over n seeds: x̄ ± t₀.₉₇₅,ₙ₋₁ s / √n.

    At 16 seeds it covers the truth in 95, 96 and 92 % of cases for normal, t₃ and skewed values,
    where the bootstrap's BCa interval covers 92, 88 and 90 %. Where every seed gives the same
    value, the interval is that value.

    Example:
        >>> low, high = interval(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
        >>> round(low, 3), round(high, 3)
        (1.037, 4.963)
    """
    values = _checked(values)
    mean = float(values.mean())
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        return mean, mean
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    half = float(quantile * values.std(ddof=1) / len(values) ** 0.5)
    return mean - half, mean + half


def verdict(effect: Effect, smallest: float, *, control: bool = False) -> Verdict:
    """What an effect says about a claim whose smallest effect that matters is δ > 0.

    The first that applies: *supported*, low > 0 and estimate ≥ δ (above zero beyond doubt, and the
    best estimate is large enough to matter); *harmful*, high < 0 and estimate ≤ −δ; *negligible*,
    −δ < low and high < δ; *refuted*, high < δ (an effect that matters is ruled out, harm is not);
    *slight*, low > 0; else *undecided*. A control, whose effect is the mechanism on minus off, has
    *passed* where low > 0 and *failed* where high < δ. Below 8 seeds there is no verdict.

    Example:
        >>> verdict(Effect(estimate=3.0, low=1.0, high=5.0, p=0.01, seeds=16), smallest=2.0)
        'supported'
        >>> verdict(Effect(estimate=0.5, low=0.1, high=0.9, p=0.01, seeds=16), smallest=2.0)
        'negligible'
    """
    if not smallest > 0:
        raise UsageError(f"the smallest effect that matters must be above 0, not {smallest}")
    if effect.seeds < LEAST_SEEDS:
        return "too few seeds"
    above, below_delta = effect.low > 0, effect.high < smallest
    rules: dict[Verdict, bool]
    if control:
        rules = {"passed": above, "failed": below_delta}
    else:
        rules = {
            "supported": above and effect.estimate >= smallest,
            "harmful": effect.high < 0 and effect.estimate <= -smallest,
            "negligible": -smallest < effect.low and below_delta,
            "refuted": below_delta,
            "slight": above,
        }
    reached: list[Verdict] = [name for name, applies in rules.items() if applies]
    return reached[0] if reached else "undecided"


def holm(p_values: Float[np.ndarray, "claims"]) -> Float[np.ndarray, "claims"]:
    """P-values corrected for the number of claims (Holm, Scand. J. Statist. 1979).

    With p₍₁₎ ≤ … ≤ p₍ₙ₎, the corrected p₍ᵢ₎ is maxⱼ≤ᵢ min(1, (n − j + 1) p₍ⱼ₎): rejecting where it
    is at most α keeps the probability of any false rejection at most α.

    Example:
        >>> holm(np.array([0.01, 0.04, 0.03]))
        array([0.03, 0.06, 0.06])
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    corrected = np.empty_like(p_values)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(factors * p_values[order]))
    return corrected


def delta_m(
    method: Float[np.ndarray, "*seeds tasks"],
    baseline: Float[np.ndarray, "*seeds tasks"],
    higher_is_better: Sequence[bool],
) -> Float[np.ndarray, "*seeds"]:
    """Δm, the relative improvement over single-task training, averaged over tasks; percent.

    Δm = (100 / T) Σₜ (−1)^lₜ (Mₘₜ − M_bₜ) / |M_bₜ| with lₜ = 1 where lower is better (Maninis,
    Radosavovic, Kokkinos, *Attentive single-tasking of multiple tasks*, CVPR 2019, equation 4;
    the modulus is ours, for metrics that can be negative). Positive is an improvement: some
    later papers report the drop, −Δm. The average is over tasks, one metric each.

    Example:
        >>> accuracy_and_error = np.array([0.55, 1.8])
        >>> float(delta_m(accuracy_and_error, np.array([0.5, 2.0]), [True, False]).round(6))
        10.0
    """
    return np.asarray(
        _relative_improvement(method, baseline, np.asarray(higher_is_better)).mean(axis=-1)
    )


def negative_transfer_index(
    method: Float[np.ndarray, "seeds tasks"],
    baseline: Float[np.ndarray, "seeds tasks"],
    higher_is_better: Sequence[bool],
) -> NegativeTransfer:
    """How much of what a method does to the tasks is harm, against *tuned* single-task training.

    A seed × task pair suffers negative transfer where its relative improvement (a term of
    :func:`delta_m`) is below 0. The index is the share of such pairs together with their mean
    relative loss: an average over tasks hides both behind the tasks that win.

    Example:
        >>> method, alone = np.array([[1.1, 0.8], [1.2, 0.6]]), np.ones((2, 2))
        >>> negative_transfer_index(method, alone, [True, True])
        NegativeTransfer(share=0.5, loss=30.0)
    """
    improvement = _relative_improvement(method, baseline, np.asarray(higher_is_better))
    losses = -improvement[improvement < 0]
    return NegativeTransfer(
        share=losses.size / improvement.size, loss=float(losses.mean()) if losses.size else 0.0
    )


def _improvement(
    method: Float[np.ndarray, "*shape"],
    baseline: Float[np.ndarray, "*other"],
    higher_is_better: Bool[np.ndarray, "..."],
) -> Float[np.ndarray, "..."]:
    return np.where(higher_is_better, 1.0, -1.0) * (method - baseline)


def _relative_improvement(
    method: Float[np.ndarray, "*shape"],
    baseline: Float[np.ndarray, "*shape"],
    higher_is_better: Bool[np.ndarray, "..."],
) -> Float[np.ndarray, "*shape"]:
    if (baseline == 0).any():
        raise UsageError(
            "a relative effect needs a baseline that is nowhere 0; "
            "compare in the metric's own unit (relative = false) instead"
        )
    return 100 * _improvement(method, baseline, higher_is_better) / np.abs(baseline)


def _checked(values: Float[np.ndarray, "seeds"]) -> Float[np.ndarray, "seeds"]:
    if len(values) < 2:
        raise UsageError(f"an interval needs at least 2 seeds, not {len(values)}: ask for more")
    if not np.isfinite(values).all():
        where = np.flatnonzero(~np.isfinite(values)).tolist()
        raise UsageError(f"values must be finite; those at the positions {where} are not")
    return values
