r"""Section 8.1: mixtures of experts on the adult census, with the pair of tasks of their papers.

Data: 48,842 people of the adult census (`mtlbook.data.adult`), two binary tasks as in the first
group of Ma et al. (2018): is the `income` above 50,000 dollars, and was the person `never_married`?
The columns that leak, `relationship` and `education-num`, and the predicted ones are no inputs. The
papers use another set, the larger *Census-Income (KDD)*: their numbers are not comparable.

Each seed draws 8,000 training, 2,000 validation and 10,000 test rows; the four numbers among the 77
inputs are in units of its training rows. The contestants are those of the page
(`mtlbook.book.experiments.mixtures`), here with experts of 16 units and towers of 8: single-task
networks, a shared bottom, the best split, a mixture with one gate (OMoE), with a gate a task
(MMoE), with own and shared experts in one level (CGC) and in two (PLE). All but the single-task
networks have at most as many parameters as MMoE, gates counted, and nearly as many.

Everyone takes 500 steps of Adam with 64 rows a step and has two trials, learning rates of 0.003 and
0.01, of which the least mean relative validation loss chooses one for each seed (for single-task
networks, each task's own); the best split has both at each of two depths. Within a trial the
weights with the least validation loss are kept. Metrics on test rows: `area under the curve` and
the logistic `loss`; for each network its number of `parameters` and of `training FLOPs` an example.
Two minutes on one core. Fixed after pilots on seeds from 7000.
"""

from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any

import pandas as pd

from mtlbook.book.experiments.cost import parameters, training_flops
from mtlbook.book.experiments.mixtures import NETWORKS, Contest
from mtlbook.book.experiments.training import adam
from mtlbook.data import adult
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.data.scaling import scaled
from mtlbook.training.fit import fit_trials
from mtlbook.training.sampling import Mixed
from mtlbook.training.selection import Selected, select
from mtlbook.training.settings import Settings, Trial

SECTION = "8.1"
DATA = ("adult",)
SEEDS = 16

SPLIT = Holdout(train=8000, validation=2000, test=10_000)
CONTESTANTS = tuple(name for name in NETWORKS if name != "MMoE with bias")
WIDTH, UNITS = 16, 8
BATCH = 64
STEPS = 500
RATES = (0.003, 0.01)
METRICS = ("area under the curve", "loss")


def run(seeds: Sequence[int], device: str, steps: int = STEPS) -> pd.DataFrame:
    """Columns seed, method, task, metric and value; costs have the task `both`."""
    people = adult.load()
    data = cache(partial(in_units_of_training_rows, people))
    contest = Contest(data(seeds[0]), width=WIDTH, units=UNITS)
    method = partial(_chosen, data=data, seeds=seeds, device=device, steps=steps)
    trials = {f"rate {rate:g}": {"optimiser": adam(rate)} for rate in RATES}
    found = contest.trained(method, trials, CONTESTANTS)
    rows = [
        {"seed": seed, "method": name, "task": task.name, "metric": metric, "value": value}
        for name, chosen in found.items()
        for task in people.tasks
        for metric in METRICS
        for seed, value in zip(seeds, chosen.score(task.name, metric), strict=True)
    ]
    example = contest.example.subset(SPLIT.draw(contest.example, seeds[0]).train[:BATCH])
    for name, network in contest.networks(CONTESTANTS).items():
        costs = {
            "parameters": parameters(network),
            "training FLOPs": training_flops(network.double(), example.inputs),
        }
        rows += [
            {"seed": seeds[0], "method": name, "task": "both", "metric": metric, "value": value}
            for metric, value in costs.items()
        ]
    return pd.DataFrame(rows)


def in_units_of_training_rows(people: MultiTaskData, seed: int) -> MultiTaskData:
    """The people, their four numbers in units of a seed's training rows."""
    return scaled(people, SPLIT, seed, columns=adult.MEASURED)


def _chosen(
    build: Any,
    trials: Mapping[str, Mapping[str, Any]],
    *,
    data: Any,
    seeds: Sequence[int],
    device: str,
    steps: int,
    stopping: str = "relative",
) -> Selected:
    """Each seed's choice among the trials; those that differ in their network train apart."""
    settings = Settings(
        split=SPLIT,
        steps=steps,
        sampler=Mixed(BATCH),
        stopping=stopping,
        validate_every=50,
        evaluate_on=("validation", "test"),
        device=device,
        progress_label="adult census",
    )
    fits = {}
    groups: dict[Any, dict[str, Trial]] = {}
    for name, changed in trials.items():
        dials = tuple(item for item in changed.items() if item[0] != "optimiser")
        groups.setdefault(dials, {})[name] = Trial(changed["optimiser"])
    for dials, own in groups.items():
        network = partial(build, **dict(dials))
        fits |= fit_trials(network, data, seeds=seeds, trials=own, settings=settings)
    return select({name: fits[name] for name in trials}, each_task=stopping == "each")
