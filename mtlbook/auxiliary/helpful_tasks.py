r"""Section 7.9, what auxiliary tasks are helpful: a forecast from features of tasks.

P(gain of main task m beside auxiliary a) = σ(w · f(m, a) + b), a logistic regression on
standardised features f (Bingel and Søgaard, 2017, section 4; `task_features` has them). It is
judged on tasks that it has not seen: pairs of a task that it knows from other pairs are no new
cases.

**Where it fails.** Features know a task, not why it helps: with some ten tasks, whatever tells them
apart passes for knowledge of pairs. So each error rate stands beside that of knowing the other task
alone (how much this main task gains as a rule, how much this auxiliary helps as a rule), and of
always expecting a gain.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped
from numpy import ndarray
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression

from mtlbook.auxiliary.task_features import PAIR
from mtlbook.errors import UsageError

FEWEST_TASKS = 4


@dataclass(frozen=True, eq=False)
class Judgement:
    """How well a rule predicts gains of tasks that it was not fitted to.

    Attributes:
        error: the share of the pairs that are called wrongly.
        area: the area under the curve, among the pairs of the same left-out task: chance is 0.5.
    """

    error: float
    area: float


@dataclass(frozen=True, eq=False)
class Forecast:
    """Predicted gains, and how far to trust them.

    Attributes:
        probability: of a gain, for every pair of the features.
        new_auxiliary: on pairs whose auxiliary task was left out, with all of its pairs.
        new_main: on pairs whose main task was left out, with all of its pairs.
        main_alone: knowing which main task it is and nothing else, on new auxiliaries.
        auxiliary_alone: knowing which auxiliary it is and nothing else, on new main tasks; how much
            it helped others is measured against what they gain from others.
        always: expecting a gain from every pair.
    """

    probability: pd.Series
    new_auxiliary: Judgement
    new_main: Judgement
    main_alone: Judgement
    auxiliary_alone: Judgement
    always: Judgement

    @property
    def trustworthy(self) -> bool:
        """Whether the features err less on new auxiliaries than both rules without features."""
        return self.new_auxiliary.error < min(self.main_alone.error, self.always.error)


def predict_gains(features: pd.DataFrame, gains: pd.Series, penalty: float = 1.0) -> Forecast:
    """Predict which pairs of tasks gain, and how often such predictions are wrong.

    Arguments:
        features: of ordered pairs (main, auxiliary), those to predict among them, as from
            `pair_features`.
        gains: measured gains of some of the pairs; above 0 is a gain. At least four tasks.
        penalty: of the squared weights of the standardised features, 1 / C.

    Raises:
        UsageError: for features that are not finite, gains of pairs without features, too few
            tasks, or gains that are all of one sign.

    Example:
        >>> from mtlbook.auxiliary.task_features import pair_features
        >>> tasks = pd.DataFrame({"entropy": [0.1, 0.2, 0.3, 1.1, 1.2, 1.3]}, index=list("abcdef"))
        >>> features = pair_features(tasks)
        >>> gains = features["auxiliary entropy"] - 0.7
        >>> forecast = predict_gains(features, gains)
        >>> forecast.new_auxiliary.error, forecast.always.error
        (0.0, 0.5)
        >>> forecast.trustworthy
        True
    """
    known = _checked(features, gains)
    own = features.loc[known.index]
    by_features = leave_one_task_out(own, known, penalty)
    by_main = leave_one_task_out(task_identity(known.index, "main"), known, penalty)
    by_auxiliary = leave_one_task_out(both_identities(known.index), known, penalty)
    always = pd.Series(1.0, known.index)
    everything = _fitted(own.to_numpy(), known.to_numpy() > 0, features.to_numpy(), penalty)
    return Forecast(
        pd.Series(everything, index=features.index, name="probability of a gain"),
        judge(by_features["new auxiliary"], known, "auxiliary"),
        judge(by_features["new main"], known, "main"),
        judge(by_main["new auxiliary"], known, "auxiliary"),
        judge(by_auxiliary["new main"], known, "main"),
        judge(always, known, "auxiliary"),
    )


def leave_one_task_out(
    features: pd.DataFrame, gains: pd.Series, penalty: float = 1.0
) -> dict[str, pd.Series]:
    """The probability of a gain for each pair, fitted without any pair of one of its tasks.

    `new auxiliary`: without the auxiliary task's pairs; `new main`: without the main task's.
    """
    known, up = features.to_numpy(dtype=float), gains.to_numpy() > 0
    mains = gains.index.get_level_values("main").to_numpy()
    others = gains.index.get_level_values("auxiliary").to_numpy()
    said = {side: np.full(len(gains), np.nan) for side in ("new auxiliary", "new main")}
    for task in np.unique(np.concatenate([mains, others])):
        apart = (mains == task) | (others == task)
        predicted = _fitted(known[~apart], up[~apart], known, penalty)
        for side, owner in (("new auxiliary", others), ("new main", mains)):
            said[side][owner == task] = predicted[owner == task]
    return {side: pd.Series(own, gains.index) for side, own in said.items()}


def judge(probability: pd.Series, gains: pd.Series, left_out: str) -> Judgement:
    """The error rate at one half, and the area under the curve within each left-out task.

    Probabilities of different left-out tasks come from different fits, so only pairs of one task
    are compared: the area is the share of such comparisons, of a pair that gains with one that does
    not, in which the former has the higher probability (ties count one half).

    Arguments:
        probability: of a gain, by pair.
        gains: measured ones, by the same pairs.
        left_out: `main` or `auxiliary`, the task that the fit did not know.
    """
    # Probabilities that differ by rounding alone are ties.
    up, said = gains.to_numpy() > 0, probability.to_numpy().round(9)
    tasks = gains.index.get_level_values(left_out).to_numpy()
    right = compared = 0.0
    for task in np.unique(tasks):
        of_task = tasks == task
        apart = said[of_task & up][:, None] - said[of_task & ~up]
        right += float((apart > 0).sum() + 0.5 * (apart == 0).sum())
        compared += apart.size
    area = right / compared if compared else 0.5
    return Judgement(float(((said > 0.5) != up).mean()), area)


def rank_agreement(
    feature: Float[ndarray, "tasks tasks"], gains: Float[ndarray, "tasks tasks"]
) -> float:
    """How well a feature ranks the auxiliaries of a main task: Spearman's ρ, the mean over mains.

    Diagonals are ignored; a feature without any ranks among a main task's auxiliaries counts as 0.

    Example:
        >>> gains = np.array([[0.0, 1, 2], [3, 0, 4], [5, 6, 0]])
        >>> rank_agreement(gains, gains), rank_agreement(np.ones((3, 3)), gains)
        (1.0, 0.0)
    """
    found = []
    for main, (own, gained) in enumerate(zip(feature, gains, strict=True)):
        ranks = np.stack([rankdata(np.delete(row, main)) for row in (own, gained)])
        flat = bool((np.ptp(ranks, axis=1) == 0).any())
        found.append(0.0 if flat else float(np.corrcoef(ranks)[0, 1]))
    return float(np.mean(found).round(12))


def _checked(features: pd.DataFrame, gains: pd.Series) -> pd.Series:
    known = gains.dropna()
    for what, index in (("features", features.index), ("gains", known.index)):
        if list(index.names) != PAIR:
            raise UsageError(
                f"The {what} are those of ordered pairs: index them by {PAIR}, not by "
                f"{list(index.names)}."
            )
    if not np.isfinite(features.to_numpy(dtype=float)).all():
        wrong = [name for name in features if not np.isfinite(features[name].astype(float)).all()]
        raise UsageError(f"The features {wrong} are not finite for some pair: drop them.")
    missing = known.index.difference(features.index)
    if len(missing):
        raise UsageError(f"There are gains of pairs without features: {list(missing)[:3]}.")
    tasks = {name for side in PAIR for name in known.index.get_level_values(side)}
    if len(tasks) < FEWEST_TASKS:
        raise UsageError(
            f"The gains are those of {len(tasks)} tasks: leaving whole tasks out needs at least "
            f"{FEWEST_TASKS}."
        )
    if (known > 0).all() or not (known > 0).any():
        raise UsageError("All gains have one sign: there is nothing to tell apart.")
    return known


def task_identity(index: pd.Index, side: str) -> pd.DataFrame:
    """A 0/1 feature of each pair for each main task, or each auxiliary: who it is, and no more."""
    tasks = index.get_level_values(side)
    return pd.DataFrame({name: (tasks == name).astype(float) for name in tasks.unique()}, index)


def both_identities(index: pd.Index) -> pd.DataFrame:
    """A 0/1 feature for each main task and for each auxiliary.

    No task is its own auxiliary, so that each auxiliary has met other main tasks: those that gain
    from anything would make it look helpful, were they not told apart.
    """
    sides = [task_identity(index, side).add_prefix(f"{side} ") for side in PAIR]
    return pd.concat(sides, axis=1)


def _fitted(
    known: Float[ndarray, "pairs features"],
    up: Shaped[ndarray, " pairs"],
    wanted: Float[ndarray, "wanted features"],
    penalty: float,
) -> Float[ndarray, " wanted"]:
    """The probability of a gain by logistic regression on features in units of the known pairs."""
    if up.all() or not up.any():
        return np.full(len(wanted), float(up.mean()))
    centre, scale = known.mean(0), known.std(0)
    scale = np.where(scale > 1e-12, scale, 1.0)
    model = LogisticRegression(C=1 / penalty, solver="newton-cholesky")
    model.fit((known - centre) / scale, up)
    return model.predict_proba((wanted - centre) / scale)[:, 1]
