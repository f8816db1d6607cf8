"""Section 7.9: a main task beside one auxiliary whose gradient is gated, weighted or left out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from mtlbook.auxiliary.similarity_gating import SimilarityGating
from mtlbook.book.data.worlds.factorial_tasks import Levels
from mtlbook.book.experiments.auxiliary_tasks import equal_trials
from mtlbook.book.experiments.helpful_tasks import Setting, constructed, digits
from mtlbook.book.experiments.networks import mlp
from mtlbook.book.experiments.training import adamw_trials, crossed, search
from mtlbook.book.page import Page
from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.training.results import Fit
from mtlbook.training.sampling import RowsOf, Streams
from mtlbook.training.selection import Selected, select
from mtlbook.weighting.auto_lambda import AutoLambda
from mtlbook.weighting.linear_scalarisation import LinearScalarisation

STRENGTHS = (0.1, 1.0, 3.0, 10.0)  # λ, where it is chosen
META_RATES = (0.01, 0.1)  # of Auto-λ's own optimiser
HELD_OUT = "held_out"
SINGLE, FIXED, CHOSEN = "single-task", "λ = 1", "λ chosen"
GATED, AUTO = "gated by the cosine", "Auto-λ"


@dataclass(frozen=True)
class Couple:
    """A main task and the one auxiliary beside it.

    Attributes:
        main, auxiliary: their names.
        setting: with both, the main task first.
        rates, decays: of AdamW, the trials of a rule without dials of its own.
    """

    main: str
    auxiliary: str
    setting: Setting
    rates: tuple[float, float] = (0.01, 0.02)
    decays: tuple[float, float] = (0.3, 1.0)


def helpful(few: int, many: int) -> Couple:
    """Few labels, beside many cleaner labels in the same direction."""
    levels = {
        "main": Levels(common=True, uniform=True, noisy=False, large=False),
        "same_direction": Levels(common=True, uniform=True, noisy=False, large=True),
    }
    labels = {"main": few, "same_direction": many}
    return Couple("main", "same_direction", constructed(levels, labels))


def harmful(few: int, many: int) -> Couple:
    """Many labels, beside few noisy labels in another direction."""
    levels = {
        "main": Levels(common=True, uniform=True, noisy=False, large=True),
        "other_direction": Levels(common=False, uniform=True, noisy=True, large=False),
    }
    labels = {"main": many, "other_direction": few}
    return Couple("main", "other_direction", constructed(levels, labels))


def harmful_digits() -> Couple:
    """The ten digits beside the question whether the digit is an eight."""
    return Couple("digit", "eight", digits("digit", "eight"), decays=(0.03, 0.1))


def contestants(page: Page, couple: Couple) -> dict[str, Selected]:
    """Every rule, each with four trials.

    Alone, with λ = 1 and gated, a rule has two learning rates by two weight decays. Where λ is
    chosen, it has four values at the larger rate and decay; Auto-λ has two learning rates of its
    own by two of the network. Choice and stopping are by the main task's validation loss; the rows
    by which Auto-λ weighs are these same validation rows.
    """
    plain = adamw_trials(couple.rates, couple.decays)
    short = adamw_trials(couple.rates, couple.decays[-1:])
    last = adamw_trials(couple.rates[-1:], couple.decays[-1:])
    tasks = [couple.main, couple.auxiliary]

    def weighted(value: float) -> LinearScalarisation:
        return LinearScalarisation({couple.main: 1.0, couple.auxiliary: value})

    def auto(rate: float) -> AutoLambda:
        return AutoLambda(
            tasks,
            [couple.main],
            stream=HELD_OUT,
            step_size=couple.rates[-1],
            initial_weight=0.5,
            learning_rate=rate,
        )

    rules = {
        FIXED: crossed({"1": {"combiner": weighted(1.0)}}, plain),
        CHOSEN: crossed({f"{own:g}": {"combiner": weighted(own)} for own in STRENGTHS}, last),
        GATED: crossed({"gate": {"combiner": SimilarityGating(tasks, couple.main)}}, plain),
    }
    alone = _trained(page, couple, tasks[:1], plain)
    ahead = crossed({f"{own:g}": {"combiner": auto(own)} for own in META_RATES}, short)
    found = {SINGLE: select(alone, each_task=True)}
    found |= {
        rule: select(_trained(page, couple, tasks, each), each_task=True)
        for rule, each in rules.items()
    }
    found[AUTO] = select(_trained(page, couple, tasks, ahead, held_out=True), each_task=True)
    equal_trials(*found.values())
    return found


def settings(couple: Couple, tasks: list[str]) -> dict[str, Any]:
    """What every training of a couple has in common."""
    own = couple.setting
    labels = {task: own.labels[task] for task in tasks}
    return {
        "tasks": tasks,
        "split": replace(own.split, labels=labels),
        "steps": own.steps,
        "sampler": Streams(own.batch, rows={task: RowsOf(task=task) for task in tasks}),
        "stopping": couple.main,
        "validate_every": own.steps // 20,
        "evaluate_on": ["validation", "test"],
    }


def network(couple: Couple) -> Callable[..., Any]:
    """One hidden layer with a head for each task that is trained."""
    return partial(mlp, width=couple.setting.width)


def _trained(
    page: Page,
    couple: Couple,
    tasks: list[str],
    trials: Mapping[str, Any],
    *,
    held_out: bool = False,
) -> dict[str, Fit]:
    common = settings(couple, tasks)
    if held_out:
        rows = dict(common["sampler"].rows) | {HELD_OUT: RowsOf(part="validation")}
        common["sampler"] = Streams(couple.setting.batch, rows=rows)
    data: Callable[[int], MultiTaskData] = couple.setting.data
    return search(page, network(couple), data, trials, **common)
