"""Section 7.9: a main task beside one auxiliary whose gradient is gated, weighted or left alone."""

from collections.abc import Mapping
from functools import cache, partial
from typing import Any

from mtlbook.auxiliary.similarity_gating import SimilarityGating
from mtlbook.book.data.worlds.factorial_tasks import Levels, factorial_tasks
from mtlbook.book.experiments.networks import mlp
from mtlbook.book.experiments.training import adamw_trials, crossed, search
from mtlbook.book.page import Page
from mtlbook.data.multi_task_data import Consecutive, MultiTaskData
from mtlbook.training.sampling import RowsOf, Streams
from mtlbook.training.selection import Selected, select
from mtlbook.weighting.auto_lambda import AutoLambda
from mtlbook.weighting.linear_scalarisation import LinearScalarisation

SPLIT = Consecutive(300, 200, 800)
WIDTH, BATCH, STEPS = 8, 32, 120
RATES, DECAYS = (0.01, 0.02), (0.3, 1.0)
STRENGTHS = (0.1, 1.0, 3.0, 10.0)  # λ, where it is chosen
HELD_OUT = "held_out"
LEVELS = {
    "helpful": Levels(common=True, uniform=True, noisy=False, large=True),
    "harmful": Levels(common=False, uniform=True, noisy=True, large=False),
}
MAINS = {
    "helpful": Levels(common=True, uniform=True, noisy=False, large=False),
    "harmful": Levels(common=True, uniform=True, noisy=False, large=True),
}
LABELS = {False: 60, True: 300}
SINGLE, FIXED, CHOSEN = "single-task", "λ = 1", "λ chosen"
GATED, WHOLE, AUTO = "gated by the cosine", "gated by its sign", "Auto-λ"


def contestants(page: Page, kind: str) -> dict[str, Selected]:
    """Every rule beside a helpful or a harmful auxiliary, each with four trials.

    Alone and with fixed λ = 1 a rule has two learning rates by two weight decays; so have both
    gates. λ is chosen among four values at the larger rate and decay, and Auto-λ's own learning rate
    among 0.01 and 0.1 at two learning rates. Choice and stopping are by the main task's validation loss; the
    rows by which Auto-λ weighs are these same validation rows.
    """
    plain = adamw_trials(RATES, DECAYS)
    short = adamw_trials(RATES, DECAYS[-1:])
    tasks = ["main", kind]

    def one(combiner: Any) -> dict[str, dict[str, Any]]:
        return {"": {"combiner": combiner}}

    weights = {
        f"λ = {value:g}": {"combiner": LinearScalarisation({"main": 1.0, kind: value})}
        for value in STRENGTHS
    }
    auto = {
        f"meta rate {rate:g}": {
            "combiner": AutoLambda(
                tasks,
                ["main"],
                stream=HELD_OUT,
                step_size=RATES[-1],
                initial_weight=0.5,
                learning_rate=rate,
            )
        }
        for rate in (0.01, 0.1)
    }
    rules: Mapping[str, Any] = {
        FIXED: crossed(one(LinearScalarisation({"main": 1.0, kind: 1.0})), plain),
        CHOSEN: crossed(weights, adamw_trials(RATES[-1:], DECAYS[-1:])),
        GATED: crossed(one(SimilarityGating(tasks, "main")), plain),
        WHOLE: crossed(one(SimilarityGating(tasks, "main", weighted=False)), plain),
    }
    every = {(rule, name): trial for rule, own in rules.items() for name, trial in own.items()}
    named = {f"{rule}: {name}": trial for (rule, name), trial in every.items()}
    fits = _trained(page, kind, tasks, named)
    found = {SINGLE: select(_trained(page, kind, ["main"], plain), each_task=True)}
    for rule, own in rules.items():
        found[rule] = select({name: fits[f"{rule}: {name}"] for name in own}, each_task=True)
    ahead = _trained(page, kind, tasks, crossed(auto, short), held_out=True)
    found[AUTO] = select(ahead, each_task=True)
    return found


def _trained(
    page: Page, kind: str, tasks: list[str], trials: Mapping[str, Any], *, held_out: bool = False
) -> Any:
    rows = {task: RowsOf(task=task) for task in tasks}
    if held_out:
        rows[HELD_OUT] = RowsOf(part="validation")
    labels = {task: LABELS[_levels(kind)[task].large] for task in tasks}
    return search(
        page,
        partial(mlp, width=WIDTH),
        partial(data, kind),
        trials,
        tasks=tasks,
        split=Consecutive(SPLIT.train, SPLIT.validation, SPLIT.test, labels=labels),
        steps=STEPS,
        sampler=Streams(BATCH, rows=rows),
        stopping="main",
        validate_every=6,
        evaluate_on=["validation", "test"],
    )


def _levels(kind: str) -> dict[str, Levels]:
    return {"main": MAINS[kind], kind: LEVELS[kind]}


@cache
def data(kind: str, seed: int) -> MultiTaskData:
    """A main task and one auxiliary, helpful or harmful."""
    rows = SPLIT.train + SPLIT.validation + SPLIT.test
    return factorial_tasks(seed, rows=int(rows), tasks=_levels(kind)).data
