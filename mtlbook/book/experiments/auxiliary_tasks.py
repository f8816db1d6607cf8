"""Section 7's contestants: a main task alone, and beside auxiliary tasks of tried weights.

All contestants have equally many trials, the same splits, steps and minibatches of the main task,
and choose trial and stopping point by the main task's validation loss.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from torch import nn

from mtlbook.book.experiments.training import Trials, crossed, train, tuned
from mtlbook.book.page import Page
from mtlbook.errors import UsageError
from mtlbook.training.fit import Data
from mtlbook.training.selection import Selected
from mtlbook.weighting.linear_scalarisation import LinearScalarisation

Build = Callable[..., nn.Module]


def strengths(
    main: str, auxiliaries: Sequence[str], values: Iterable[float]
) -> dict[str, dict[str, Any]]:
    """Trials of λ, the weight of each auxiliary loss; the main task's is 1.

    Example:
        >>> list(strengths("ill", ["days"], [0.1, 1.0]))
        ['λ 0.1', 'λ 1']
    """
    return {
        f"λ {value:g}": {
            "combiner": LinearScalarisation({main: 1.0, **dict.fromkeys(auxiliaries, value)})
        }
        for value in values
    }


def alone(
    page: Page, build: Build, data: Data, main: str, *, trials: Trials, **settings: Any
) -> Selected:
    """Single-task training: for each seed its trial with the least validation loss."""
    return tuned(page, build, data, trials, tasks=[main], stopping=main, **settings)


def beside(
    page: Page,
    build: Build,
    data: Data,
    main: str,
    auxiliaries: Sequence[str],
    *,
    values: Iterable[float],
    trials: Trials,
    **settings: Any,
) -> Selected:
    """The main task beside auxiliary ones, chosen by the *main* task's validation loss.

    Arguments:
        page: whose seeds and device are used.
        build: as for `tuned`.
        data: as for `tuned`.
        main: the task that counts.
        auxiliaries: the others.
        values: λ, each tried with each of the trials.
        trials: what else is tried.
        **settings: as for `tuned`.
    """
    tried = crossed(strengths(main, auxiliaries, values), trials)
    return tuned(page, build, data, tried, tasks=[main, *auxiliaries], stopping=main, **settings)


def equal_trials(*contestants: Selected) -> int:
    """How many trials each contestant had.

    Raises:
        UsageError: where they had not equally many.
    """
    totals = {len(contestant.fits) for contestant in contestants}
    if len(totals) != 1:
        raise UsageError(f"The contestants had {sorted(totals)} trials: give each equally many.")
    return totals.pop()


def zero_weight_gap(
    page: Page,
    build: Build,
    data: Data,
    main: str,
    auxiliaries: Sequence[str],
    **settings: Any,
) -> float:
    """The largest difference of test predictions between λ = 0 and single-task training.

    It is exactly 0: trunk and main head start from the same weights, and a loss of weight 0 leaves
    no trace.
    """
    common: dict[str, Any] = {"stopping": main} | settings
    own = train(page, build, data, tasks=[main], **common)
    (zero,) = strengths(main, auxiliaries, [0.0]).values()
    joint = train(page, build, data, tasks=[main, *auxiliaries], **common, **zero)
    return float(np.abs(own.predictions[main] - joint.predictions[main]).max())
