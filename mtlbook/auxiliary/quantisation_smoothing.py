r"""Section 7.5, quantisation smoothing: beside a label, the quantity of which it is a threshold.

Where the label says whether a quantity z exceeds a cut τ, and z is known in training, a network
also predicts z (Caruana, 1997, section 4.8; Ruder, 2017, section 7.5):

    L = BCE([z > τ], p̂) + λ (z − ẑ)².

What the cut loses is a number. Of the information about the mean of a normal z, in Fisher's sense,
cuts c_1 < … < c_K keep the share

    Σ_j (φ(c_j) − φ(c_{j−1}))² / (Φ(c_j) − Φ(c_{j−1})),    c_0 = −∞, c_{K+1} = ∞,

with φ and Φ the standard normal density and distribution; for one cut with a share p of cases above
it that is φ²/(p (1 − p)): 0.64, 0.54, 0.34, 0.22 for p = 50, 25, 10, 5 %. More cuts keep more, and
in the limit all. (At the median a third of the data is lost: Altman and Royston, 2006.)

**Where it fails.** The auxiliary loss teaches the trunk alone; the label's own head still learns
from labels. A regression of z whose threshold is calibrated on a few labels, `calibrated`, needs no
second head, and is the rival to beat. Squared error follows outliers of z: see `clipped`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from mtlbook.errors import UsageError

# Half of the standard normal means over which a share is averaged.
_GRID = 8.0


def information_share(*prevalences: float, explained: float = 0.0) -> float:
    r"""The share of the information about a normal variable's mean that is left by cuts.

    Arguments:
        prevalences: for each cut the share of cases above it.
        explained: $R$, the share of the variance that the inputs explain. At 0 inputs say little,
            and the share is the closed form above. At $R > 0$ it is the mean over inputs, of which
            many lie so far from every cut that their labels say nothing new: it is smaller.

    Raises:
        UsageError: for no cut, two equal ones, a prevalence that is not between 0 and 1, or an
            `explained` that is not a share below 1.

    Example:
        >>> [round(information_share(p), 3) for p in (0.5, 0.25, 0.1, 0.05)]
        [0.637, 0.539, 0.342, 0.224]
        >>> round(information_share(0.25, 0.5, 0.75), 3)
        0.861
    """
    if not prevalences or not all(0 < p < 1 for p in prevalences):
        raise UsageError(f"A prevalence lies between 0 and 1, neither of them: not {prevalences}.")
    if len(set(prevalences)) < len(prevalences):
        raise UsageError(f"Two of the cuts are one: {prevalences}.")
    if not 0 <= explained < 1:
        raise UsageError(
            f"explained is a share of variance below 1, not {explained}: of what is known for sure "
            "there is no information left to share."
        )
    cuts = norm.isf(sorted(prevalences, reverse=True))
    means, weights = np.zeros(1), np.ones(1)
    if explained:
        means = np.linspace(-_GRID, _GRID, 4001)
        weights = norm.pdf(means) / norm.pdf(means).sum()
    spread = np.sqrt(1 - explained)
    places = (cuts[:, None] - np.sqrt(explained) * means) / spread  # (cuts, means)
    edges = np.zeros_like(means)[None]
    density = np.diff(norm.pdf(places), axis=0, prepend=edges, append=edges)
    # The chance of each interval from the tail in which it is exact.
    below = np.concatenate([edges, norm.cdf(places), edges + 1])
    above = np.concatenate([edges + 1, norm.sf(places), edges])
    chance = np.where(below[:-1] < 0.5, np.diff(below, axis=0), -np.diff(above, axis=0))
    kept = np.divide(density**2, chance, out=np.zeros_like(density), where=chance > 0).sum(0)
    return float(kept @ weights)


def clipped(
    values: Float[Tensor, "rows columns"],
    training: Float[Tensor, "training columns"],
    limit: float = 3.0,
) -> Float[Tensor, "rows columns"]:
    """Columns in robust units of training rows, and no further from their middle than a limit.

    The middle is the median, the unit the distance between the 16th and the 84th percentile, halved
    (of a normal variable its standard deviation): one huge value moves neither.

    Arguments:
        values: of all rows.
        training: those of the training rows, which alone decide middle and unit.
        limit: the largest distance that is kept, in units.

    Raises:
        UsageError: for a limit that is not positive, or a column of which two thirds of the
            training rows are equal.

    Example:
        >>> days = torch.tensor([[49.5], [1000.0]])
        >>> clipped(days, torch.arange(100.0)[:, None]).tolist()
        [[0.0], [3.0]]
    """
    if not limit > 0:
        raise UsageError(f"The limit is a distance above 0, not {limit}.")
    low, middle, high = (torch.quantile(training, share, dim=0) for share in (0.16, 0.5, 0.84))
    unit = (high - low) / 2
    if bool((unit == 0).any()):
        raise UsageError(
            "The middle two thirds of a column are equal: it is all but quantised already. Predict "
            "its classes, or its logarithm, instead."
        )
    return ((values - middle) / unit).clamp(-limit, limit)


@dataclass(frozen=True)
class Calibration:
    """Log-odds a + b s of a label from a score s."""

    intercept: float
    slope: float

    def __call__(self, scores: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The log-odds of scores."""
        return self.intercept + self.slope * scores


def calibrated(scores: Float[Tensor, "rows 1"], labels: Float[Tensor, "labels 1"]) -> Calibration:
    r"""Platt's calibration: the log-odds of a label as a linear function of any score.

    With the score the prediction of z this is "regress, then calibrate the threshold": a normal z
    of spread σ exceeds τ with probability Φ((ẑ − τ)/σ), which a + b ẑ follows closely. Both numbers
    are fitted by logistic regression, on rows that the score was not trained on, to Platt's (1999)
    softened targets $(N_+ + 1)/(N_+ + 2)$ and $1/(N_- + 2)$: finite also where the score parts the
    classes.

    Arguments:
        scores: of some rows, such as those of the validation part.
        labels: 0 or 1, of the same rows.

    Raises:
        UsageError: for scores and labels that do not match, are not finite or not 0 and 1, and for
            labels of one class only.

    Example:
        >>> scores = torch.tensor([[0.1], [0.4], [0.5], [0.9]])
        >>> rule = calibrated(scores, torch.tensor([[0.0], [1.0], [0.0], [1.0]]))
        >>> torch.sigmoid(rule(torch.tensor([0.0, 0.5, 1.0]))).round(decimals=2)
        tensor([0.2500, 0.5200, 0.7700])
    """
    score = scores.detach().double().cpu().numpy()
    label = labels.double().cpu().numpy().ravel()
    if len(score) != len(label):
        raise UsageError(f"{len(score)} scores for {len(label)} labels: give one a row.")
    if not np.isfinite(score).all():
        raise UsageError("A score is NaN or infinite: train with a smaller learning rate.")
    if not np.isin(label, (0, 1)).all():
        raise UsageError("The labels of a calibration are 0 or 1: threshold the quantity first.")
    positive = int(label.sum())
    if positive in (0, len(label)):
        raise UsageError(
            f"All {len(label)} labels are {label[0] if len(label) else 'missing'}: calibrate on "
            "rows of both classes."
        )
    target = np.where(label == 1, (positive + 1) / (positive + 2), 1 / (len(label) - positive + 2))
    # A soft target is a row of either class, weighted.
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(
        np.concatenate([score, score]),
        np.repeat([1, 0], len(label)),
        sample_weight=np.concatenate([target, 1 - target]),
    )
    return Calibration(float(model.intercept_[0]), float(model.coef_[0, 0]))
