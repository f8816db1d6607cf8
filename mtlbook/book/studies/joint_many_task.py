r"""Section 6.5: parts of speech and relations below relatedness and entailment, by one model.

Four levels, each one layer of windows of three positions and 16 units on vectors of 12 entries:

| level | task                                     | data           | training rows |
|-------|------------------------------------------|----------------|---------------|
| 1     | `upos`, universal part of speech         | UD English EWT | 600 sentences |
| 2     | `deprel`, relation of a word to its head | the same       | 600           |
| 3     | `relatedness` of two sentences, 1 to 5   | SICK           | 600 pairs     |
| 4     | `entailment`, neutral, contradiction, …  | the same       | 600           |

Sentences have at most 10 words (those of the treebank at least 4); the two of a pair stand behind
one another with a gap that no window spans. They are the first short ones of the training files,
split at random anew for each seed, with 100 validation and 300 test rows of each data set: the
numbers are not those of the papers. A word is known by a hash, its ending and its shape, without
pre-trained vectors. As in Hashimoto et al. (2017) a sentence is the maximum over its words' states;
a hidden layer reads |u − v| and u ⊙ v for relatedness, u − v and u ⊙ v for entailment; relatedness
is the Kullback–Leibler divergence of distributions over 1 to 5. There the expected label of
relatedness enters the entailment classifier, here the level's encoder, at every word.

Eight rounds of passes, 20 rows a step; plain gradient descent whose rate falls by round as
1 / (1 + 0.3 k), gradients clipped at 3. Weights are kept by the mean relative validation loss at
the ends of rounds. The first three have two trials, the learning rates 1 and 2:

* *joint*: passes from the lowest task to the top, with the paper's penalties.
* *single-task*: a network for each task, as deep as its level; each takes as many steps as the
  joint model on all tasks together, four times as many as this takes on its task, and chooses
  trial and stopping point by its own loss.
* *single-task, same passes*: the same networks with the joint model's steps on their task.
* At the rate 1, beside the joint model of this rate: *no label embeddings*; *shuffled*, the order
  of passes drawn anew in each round (one sequence of orders for four seeds).
* *successive* and *plain*: the last weights, at the rate 1, with δ = 0.01 and without any penalty.

All in float32: other processors may give other third digits. About 3 minutes on one core. Fixed
after pilots on seeds from 7000.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from mtlbook.architectures.joint_many_task import JointManyTask, SuccessiveRegularisation
from mtlbook.book.experiments.many_tasks import (
    ShuffledPasses,
    descent,
    falling,
    own_losses,
    tag_head,
)
from mtlbook.book.experiments.results import scores
from mtlbook.data import conllu, sick
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.data.sentences import VOCABULARY, Sentence, seen, tagged, tags_of
from mtlbook.layers.tagging import Masked, States, Words
from mtlbook.layers.window import Window
from mtlbook.metrics import Metric
from mtlbook.tasks import Numbers, Task
from mtlbook.training.fit import fit_trials
from mtlbook.training.results import Fit, join
from mtlbook.training.sampling import Balanced, Passes
from mtlbook.training.selection import Selected, select
from mtlbook.training.settings import Settings, Trial

SECTION = "6.5"
DATA = ("ud_english_ewt", "sick")
SEEDS = 16

SHORTEST, LONGEST = 4, 10
LENGTH = 2 * LONGEST + 1  # two sentences and a gap
SPLIT = Holdout(train=600, validation=100, test=300)
WORD, UNITS, LABEL = 12, 16, 6
BATCH, ROUNDS = 20, 8
RATES = (1.0, 2.0)
RATE, DELTA = 1.0, 0.01
TOGETHER = 4  # seeds that share a sequence of shuffled orders


def run(seeds: Sequence[int], device: str, rounds: int = ROUNDS) -> pd.DataFrame:
    """Test losses and metrics: a row a seed, method, task and metric."""
    data = corpus(int(SPLIT.train + SPLIT.validation + SPLIT.test))
    chosen = contestants(data, SPLIT, seeds, device, rounds)
    rows = [
        (seed, method, task.name, metric, value)
        for method, own in chosen.items()
        for metric, values in (("loss", scores(own, "loss")), ("score", scores(own)))
        for task, of_task in zip(data.tasks, values.T, strict=True)
        for seed, value in zip(seeds, of_task, strict=True)
    ]
    return pd.DataFrame(rows, columns=["seed", "method", "task", "metric", "value"])


def contestants(
    data: MultiTaskData, split: Holdout, seeds: Sequence[int], device: str, rounds: int
) -> dict[str, Fit | Selected]:
    """The trials of each contestant, and each seed's choice among them."""
    of_round = len(data.tasks) * (int(split.train) // BATCH)

    def trained(
        build: Any, rates: Sequence[float], of_seeds: Sequence[int] = seeds, **changed: Any
    ) -> dict[str, Fit]:
        common: dict[str, Any] = {
            "split": split,
            "steps": rounds * of_round,
            "sampler": Passes(BATCH),
            "objective": own_losses(data.tasks),
            "regulariser": SuccessiveRegularisation(),
            "schedule": partial(falling, rounds=rounds),
            "clip": 3.0,
            "stopping": "relative",
            "validate_every": of_round,
            "evaluate_on": ("validation", "test"),
            "device": device,
            "dtype": torch.float32,
        }
        trials = {f"rate {rate:g}": Trial(partial(descent, rate=rate)) for rate in rates}
        settings = Settings(**common | changed)
        return fit_trials(build, data, seeds=of_seeds, trials=trials, settings=settings)

    def one(build: Any, *own: Any, **changed: Any) -> Fit:
        return next(iter(trained(build, [RATE], *own, **changed).values()))

    joint = trained(joint_network, RATES)
    apart = {"sampler": Balanced(BATCH), "regulariser": None, "stopping": "each"}
    groups = [seeds[start : start + TOGETHER] for start in range(0, len(seeds), TOGETHER)]
    orders = ShuffledPasses(BATCH)
    anchored = SuccessiveRegularisation(DELTA, DELTA)
    return {
        "joint": select(joint),
        "single-task": select(trained(SingleNetworks.of, RATES, **apart), each_task=True),
        "single-task, same passes": select(
            trained(SingleNetworks.of, RATES, regulariser=None, stopping="each"), each_task=True
        ),
        "joint, one rate": joint[f"rate {RATE:g}"],
        "no label embeddings": one(partial(joint_network, labels=False)),
        "shuffled": join([one(joint_network, group, sampler=orders) for group in groups]),
        "successive": one(joint_network, regulariser=anchored, stopping=None),
        "plain": one(joint_network, regulariser=None, stopping=None),
    }


# Data ---------------------------------------------------------------------------------------------


def corpus(rows: int) -> MultiTaskData:
    """The first short sentences of the treebank and the first short pairs of SICK, `rows` each."""
    sentences = [own for own in conllu.load("ud_english_ewt") if SHORTEST <= len(own) <= LONGEST]
    pairs = [own for own in sick.load() if max(len(own.first), len(own.second)) <= LONGEST]
    return many_tasks_data(sentences[:rows], pairs[:rows])


def many_tasks_data(sentences: Sequence[Sentence], pairs: Sequence[sick.Pair]) -> MultiTaskData:
    """Tagged sentences, then pairs, each labelled for its own two tasks."""
    labels = {name: tags_of(sentences, name) for name in ("upos", "deprel")}
    below = tagged(sentences, labels, LENGTH)
    first, rows = len(sentences), len(sentences) + len(pairs)
    assert isinstance(below.inputs, dict)
    tokens = torch.zeros(rows, LENGTH, below.inputs["tokens"].shape[2], dtype=torch.long)
    tokens[:first] = below.inputs["tokens"]
    for row, pair in enumerate(pairs, start=first):
        for start, words in ((0, pair.first), (LONGEST + 1, pair.second)):
            known = torch.tensor([seen(word) for word in words])
            tokens[row, start : start + len(words)] = known
    paired = torch.arange(rows) >= first
    targets: dict[str, Tensor] = {}
    for task in below.tasks:
        padding = torch.zeros(len(pairs), LENGTH, dtype=torch.long)
        targets[task.name] = torch.cat([below.targets[task.name], padding])
    scale = sick.distribution([own.relatedness for own in pairs])
    relation = torch.tensor([sick.RELATIONS.index(own.relation) for own in pairs])
    targets["relatedness"] = torch.cat([torch.zeros(first, sick.SCORES, dtype=scale.dtype), scale])
    targets["entailment"] = torch.cat([torch.zeros(first, dtype=torch.long), relation])
    tasks = (*below.tasks, relatedness(), Task.classification("entailment", len(sick.RELATIONS)))
    labelled = dict.fromkeys(labels, ~paired) | {"relatedness": paired, "entailment": paired}
    inputs = {"tokens": tokens, "mask": tokens[..., 0] > 0}
    return MultiTaskData(tasks, inputs, targets, labelled)


def relatedness() -> Task:
    """KL(gold ‖ predicted) of distributions over 1 to 5; the metric is that of their means."""
    metric = Metric("mean squared error", higher_is_better=False, compute=_error_of_mean)
    return Task.custom("relatedness", sick.SCORES, _divergence, metric, targets=Numbers())


def _divergence(prediction: Tensor, target: Tensor) -> Tensor:
    return (torch.xlogy(target, target) - target * prediction.log_softmax(1)).sum(1)


def _error_of_mean(prediction: Tensor, target: Tensor) -> Tensor:
    scale = torch.arange(1, sick.SCORES + 1).to(prediction)
    return (prediction.softmax(1) @ scale - target.to(prediction) @ scale).square().mean()


# Networks -----------------------------------------------------------------------------------------


class PairHead(nn.Module):
    """From the states of two sentences to the labels of the pair.

    Arguments:
        units: of a state, which lies between −1 and 1.
        labels: of the pair.
        ordered: whether the difference keeps its sign.
    """

    def __init__(self, units: int, labels: int, *, ordered: bool) -> None:
        super().__init__()
        self.ordered = ordered
        self.hidden = nn.Linear(2 * units, units)
        self.linear = nn.Linear(units, labels)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, states: States) -> Tensor:
        """The logits of each label, `(pairs, labels)`."""
        known = torch.where(states["mask"].unsqueeze(-1), states["states"], -1.0)
        first, second = known[:, :LONGEST].amax(1), known[:, LONGEST + 1 :].amax(1)
        apart = first - second if self.ordered else (first - second).abs()
        return self.linear(self.hidden(torch.cat([apart, first * second], 1)).tanh())


def head(task: Task) -> nn.Module:
    """A task's head."""
    if task.name in ("relatedness", "entailment"):
        return PairHead(UNITS, task.outputs, ordered=task.name == "entailment")
    return tag_head(UNITS, task)


def joint_network(data: MultiTaskData, _seed: int, *, labels: bool = True) -> JointManyTask:
    """The four levels."""

    def stages() -> list[nn.Module]:
        upper = [UNITS + WORD + LABEL * labels] * (len(data.tasks) - 1)
        return [Words(VOCABULARY, WORD), *(Masked(Window(w, UNITS)) for w in (WORD, *upper))]

    heads = {task.name: head(task) for task in data.tasks}
    counts = {task.name: task.outputs for task in data.tasks[:-1]} if labels else None
    return JointManyTask(stages, heads, labels=counts, width=LABEL)


class SingleNetworks(nn.Module):
    """A network for each task, as deep as its level."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(
            {
                task.name: nn.Sequential(
                    Words(VOCABULARY, WORD), Masked(Window(WORD, UNITS, depth)), head(task)
                )
                for depth, task in enumerate(tasks, start=1)
            }
        )

    @classmethod
    def of(cls, data: MultiTaskData, _seed: int) -> "SingleNetworks":
        """Those of the data's tasks."""
        return cls(data.tasks)

    def forward(self, inputs: States) -> dict[str, Tensor]:
        """Each task's prediction."""
        return {name: network(inputs) for name, network in self.networks.items()}
