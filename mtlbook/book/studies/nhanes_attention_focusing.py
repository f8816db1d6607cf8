"""Whether nine answers to a depression screener focus attention and help with the diagnosis.

Data: NHANES 2017-2018 (`mtlbook.book.data.nhanes`), adults with measures of their body and blood,
their nine PHQ-9 answers and the screening diagnosis (sum of the answers at least 10). The inputs
are the real measures and, behind them, a copy of all of them that belongs to *another* person
(`mtlbook.book.data.disguised`): half of the inputs are irrelevant for certain.
Inputs and answers are standardised with what the training rows say.

Methods, all with one hidden layer of tanh units:

* `alone`: a network for the diagnosis;
* `with the answers`: hard parameter sharing by the diagnosis and the nine answers of the person
  whose diagnosis it is: all tasks look at the same inputs;
* `with copies`: the control. Nine copies of the diagnosis take the place of the answers: the same
  network, trained in the same way, and no evidence that the diagnosis alone has not got;
* `with answers of others`: the nine answers are those of the person whom the permuted copy shows,
  so that answers and diagnosis have no relevant input in common.

Each method has the trials of `TRIALS` (width, step size, weight decay, strength of a lasso over the
inputs), trained by gradient descent on all rows; the least logistic loss of the diagnosis on the
validation part decides where training stops and which trial counts, seed by seed. `EXAMPLES`
training rows are drawn for each seed, of which some 9 % have the diagnosis, and the same validation
and test rows for each number of examples; a seed also draws the copies.

Metrics, all on the diagnosis: on test data the `area under the curve` of the receiver operating
characteristic, the `average precision` and the logistic `loss`; of the network the `share of
weights` (of the first layer's squared weights, those on real inputs) and the `share of
sensitivity` (of the squared gradients of the diagnosis' logit by the inputs, averaged over test
rows; Sobol' and Kucherenko, 2009). A share of 0.5 is no preference for the real inputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import pandas as pd
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import nn

from mtlbook.book.data import nhanes
from mtlbook.book.data.disguised import disguised
from mtlbook.book.experiments.attention_focusing import copies
from mtlbook.book.experiments.mean_loss_descent import mean_loss_descent
from mtlbook.book.experiments.networks import hard_sharing
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.data.scaling import RawTable
from mtlbook.data.synthetic import SyntheticDataset
from mtlbook.mechanisms.attention_focusing import sensitivities, share, squared_weights
from mtlbook.sharing.hard import HardSharing
from mtlbook.sharing.input_lasso import InputLasso
from mtlbook.training.fit import Fit, fit
from mtlbook.training.sampling import Mixed
from mtlbook.training.selection import select
from mtlbook.training.settings import Settings

SECTION = "4.2"
DATA = ("nhanes_2017",)
SEEDS = 10

DIAGNOSIS = "diagnosis"
COPIES = "with copies"
EXAMPLES = (500, 2000)
VALIDATION = 1000
TEST = 2000
STEPS = 300


@dataclass(frozen=True)
class Trial:
    """The settings of one training."""

    width: int
    step_size: float
    weight_decay: float
    lasso: float


TRIALS = (
    Trial(8, 0.3, 0.03, 0.0),
    Trial(8, 0.3, 0.001, 0.01),
    Trial(8, 0.3, 0.001, 0.03),
    Trial(32, 0.3, 0.001, 0.01),
    Trial(32, 0.3, 0.001, 0.03),
    Trial(32, 0.1, 0.001, 0.01),
)


def run(seeds: Sequence[int], device: str) -> pd.DataFrame:
    """The results: columns examples, method, seed, metric and value."""
    table = nhanes.load()
    answers = [task.name for task in table.tasks if task.name != DIAGNOSIS]
    same = dict.fromkeys([*answers, DIAGNOSIS], 0)
    methods = {
        "alone": (same, [DIAGNOSIS]),
        "with the answers": (same, [*answers, DIAGNOSIS]),
        COPIES: (same, [*answers, DIAGNOSIS]),
        "with answers of others": (
            dict.fromkeys(answers, 1) | {DIAGNOSIS: 0},
            [*answers, DIAGNOSIS],
        ),
    }
    rows = []
    for examples in EXAMPLES:
        for method, (looks_at, tasks) in methods.items():
            copied = method == COPIES
            measured = _method(table, looks_at, tasks, examples, seeds, device, copied=copied)
            rows += [{"examples": examples, "method": method, **row} for row in measured]
    return pd.DataFrame(rows)


def _method(
    table: RawTable,
    looks_at: Mapping[str, int],
    tasks: Sequence[str],
    examples: int,
    seeds: Sequence[int],
    device: str,
    *,
    copied: bool,
) -> list[dict[str, object]]:
    """What the trial that validation data choose gives for each seed."""
    split = Holdout(train=examples, validation=VALIDATION, test=TEST)

    @cache
    def made(seed: int) -> SyntheticDataset:
        found = disguised(table, seed, looks_at=looks_at, blocks=2, split=split)
        return replace(found, data=copies(found.data, DIAGNOSIS)) if copied else found

    trials = {}
    for trial in TRIALS:
        settings = Settings(
            tasks=tasks,
            split=split,
            steps=STEPS,
            sampler=Mixed(None),
            optimiser=partial(
                mean_loss_descent,
                step_size=trial.step_size,
                tasks=len(tasks),
                weight_decay=trial.weight_decay,
                lasso=InputLasso(["trunk.0.weight"], trial.lasso),
            ),
            stopping=DIAGNOSIS,
            validate_every=10,
            device=device,
            progress_label=", ".join(tasks),
        )
        trials[str(trial)] = fit(
            partial(_network, width=trial.width),
            lambda seed: made(seed).data,
            seeds=seeds,
            settings=settings,
        )
    chosen = select(trials, each_task=True).choices[DIAGNOSIS]
    return [
        {"seed": seed, "metric": metric, "value": value}
        for number, seed in enumerate(seeds)
        for metric, value in _measures(trials[chosen.iloc[number]], number, made(seed)).items()
    ]


def _network(data: MultiTaskData, _seed: int, *, width: int) -> HardSharing:
    inputs = data.inputs.shape[1]
    return hard_sharing(lambda: [nn.Linear(inputs, width), nn.Tanh()], data.tasks, width)


def _measures(trained: Fit, number: int, made: SyntheticDataset) -> dict[str, float]:
    """The metrics of one seed."""
    seed = trained.seeds[number]
    test = torch.from_numpy(trained.test[number])
    model = trained.model(seed)
    assert isinstance(model, HardSharing)
    real = made.relevant[DIAGNOSIS]
    logits = trained.predictions[DIAGNOSIS][number, :, 0]
    gradients = sensitivities(lambda x: model(x)[DIAGNOSIS], made.data.inputs[test])
    weights = model.get_parameter("trunk.0.weight").detach()
    labels = made.data.targets[DIAGNOSIS][test, 0].numpy()
    return {
        "area under the curve": float(roc_auc_score(labels, logits)),
        "average precision": float(average_precision_score(labels, logits)),
        "loss": float(trained.score(DIAGNOSIS, "loss")[number]),
        "share of weights": float(share(squared_weights(weights), real)),
        "share of sensitivity": float(share(gradients, real[None])[0]),
    }
