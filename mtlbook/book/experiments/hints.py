"""Section 7.3, hints: labels on one domain's texts, hints on the texts of two domains."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mtlbook.auxiliary.auxiliary_task import shuffled
from mtlbook.auxiliary.hints import Pivots, check_vocabulary, hint_rows, select_pivots
from mtlbook.book.data.worlds.two_domains import DOMAIN, POLARITY, two_domains, words_of
from mtlbook.book.experiments.auxiliary_tasks import alone, beside, zero_weight_gap
from mtlbook.book.experiments.networks import mlp
from mtlbook.book.experiments.results import trained_network
from mtlbook.book.experiments.training import Trials, adamw_trials, crossed, tuned
from mtlbook.book.page import Page
from mtlbook.data.multi_task_data import Consecutive, MultiTaskData
from mtlbook.tasks import Task
from mtlbook.training.context import Batch, StepContext
from mtlbook.training.objective import Objective
from mtlbook.training.sampling import Balanced, RowsOf, Streams
from mtlbook.training.selection import Selected
from mtlbook.weighting.linear_scalarisation import LinearScalarisation

HINTS, PSEUDO = "hints", "pseudo"
TASKS = (Task.binary(POLARITY, metric="error rate"), Task.binary(HINTS, 2, metric="error rate"))
CHECKED = 50  # texts with hints among the validation and the test rows
SURE = 0.9  # the probability from which self-training believes itself


@dataclass(frozen=True, eq=False)
class Part:
    """Some texts, a row each.

    Attributes:
        words: of the whole text.
        masked: of the text without pivots.
        hints: whether the text contains a positive, and a negative pivot.
        labels: the polarity.
    """

    words: Float[Tensor, "texts words"]
    masked: Float[Tensor, "texts words"]
    hints: Float[Tensor, "texts 2"]
    labels: Float[Tensor, "texts 1"]

    @staticmethod
    def of_bags(
        words: Float[Tensor, "texts words"], labels: Float[Tensor, "texts 1"], pivots: Pivots
    ) -> "Part":
        """Bags of words, of which a pivot is one column."""
        masked, hints = hint_rows(words, pivots)
        return Part(words, masked, hints, labels)


@dataclass(frozen=True, eq=False)
class Texts:
    """A seed's texts; the pivots were chosen among the labelled ones.

    Attributes:
        labelled: training texts, whose labels are known.
        unlabelled: training texts of the target domain, whose labels nobody asks for.
        validation: of the domain of the labelled texts.
        test: of the target domain.
    """

    labelled: Part
    unlabelled: Part
    validation: Part
    test: Part

    def with_hints(self, *, masked: bool = True, target: bool = True) -> MultiTaskData:
        """Rows with the label, and behind them, in each part, rows with the hints.

        Arguments:
            masked: False leaves the pivots in the rows with the hints.
            target: False makes hints of the labelled texts alone: no rows of the other domain.
        """
        own = [self.labelled, self.unlabelled] if target else [self.labelled]
        parts = [([self.labelled], own)]
        parts += [([part], [_first(part)]) for part in (self.validation, self.test)]
        blocks: list[tuple[Tensor, Tensor | None, Tensor | None]] = []
        for labelled, hinted in parts:
            blocks += [(part.words, part.labels, None) for part in labelled]
            blocks += [(part.masked if masked else part.words, None, part.hints) for part in hinted]
        return _stacked(blocks)

    def with_pivots_as_inputs(self) -> MultiTaskData:
        """Rows with the label, whose hints are two more inputs."""
        parts = (self.labelled, self.validation, self.test)
        return _stacked([(torch.cat([p.words, p.hints], 1), p.labels, None) for p in parts])

    def with_unlabelled(self) -> MultiTaskData:
        """Rows with the label, and rows of the target domain without any."""
        label = [(part.words, part.labels, None) for part in (self.validation, self.test)]
        known = (self.labelled.words, self.labelled.labels, None)
        return _stacked([known, (self.unlabelled.words, None, None), *label])

    def split(self, *, hints: int = 0, unlabelled: int = 0) -> Consecutive:
        """Of data that are made of these texts, with so many parts of hints or texts besides."""
        train = len(self.labelled.words) * (1 + (hints > 0))
        train += len(self.unlabelled.words) * ((hints > 1) + unlabelled)
        checked = CHECKED if hints else 0
        return Consecutive(
            train, len(self.validation.words) + checked, len(self.test.words) + checked
        )


def _first(part: Part) -> Part:
    return Part(*(getattr(part, n)[:CHECKED] for n in ("words", "masked", "hints", "labels")))


def _stacked(
    blocks: Sequence[tuple[Tensor, Tensor | None, Tensor | None]],
) -> MultiTaskData:
    """Blocks of rows with inputs and, where known, the label and the hints, one behind another."""
    inputs = torch.cat([words for words, _, _ in blocks])
    targets, labelled = {}, {}
    for place, task in enumerate(TASKS, start=1):
        own = [block[place] for block in blocks]
        if all(values is None for values in own):
            continue
        sizes = [len(words) for words, _, _ in blocks]
        empty = [inputs.new_zeros(size, task.outputs) for size in sizes]
        targets[task.name] = torch.cat(
            [no if values is None else values for values, no in zip(own, empty, strict=True)]
        )
        known = torch.tensor([values is not None for values in own])
        labelled[task.name] = known.repeat_interleave(torch.tensor(sizes))
    tasks = [task for task in TASKS if task.name in targets]
    return MultiTaskData.partial(tasks, inputs, targets, labelled)


def constructed(
    seed: int,
    *,
    labels: int,
    together: float = 1.0,
    labels_of: str = "source",
    unlabelled: int = 800,
    validation: int = 400,
    test: int = 1000,
    pivots: int = 4,
) -> Texts:
    """Texts of `two_domains`, with labels in the source domain, or, to compare, in the target.

    Arguments:
        seed: of everything drawn.
        labels: labelled training texts.
        together: the dial of `two_domains`.
        labels_of: the domain of the labelled and of the validation texts, `source` or `target`.
        unlabelled: training texts of the target domain without labels.
        validation: texts.
        test: texts.
        pivots: of each side.
    """
    rows = int(2.5 * (labels + unlabelled + validation + test))
    data = two_domains(seed, rows=rows, together=together).data
    words, polarity = data.inputs, data.targets[POLARITY]
    of_target = data.targets[DOMAIN][:, 0] == 1
    source, target = (torch.nonzero(of_target == own)[:, 0] for own in (False, True))
    tested, free, left = target.split([test, unlabelled, len(target) - test - unlabelled])
    known = (source if labels_of == "source" else left)[: validation + labels]
    checked, known = known[:validation], known[validation:]
    check_vocabulary(words[torch.cat([known, free])], words[tested])
    found = select_pivots(words[known], polarity[known], pivots, elsewhere=words[free], least=0.03)
    parts = (
        Part.of_bags(words[own], polarity[own], found) for own in (known, free, checked, tested)
    )
    return Texts(*parts)


def self_training(sure: float = SURE) -> Objective:
    """The loss on labels, and on the network's own guesses where it is sure (Lee, 2013).

    Arguments:
        sure: the probability from which a guess counts as a label.
    """

    def compute(
        model: nn.Module,
        batches: Mapping[str, Batch],
        context: StepContext,  # noqa: ARG001
    ) -> dict[str, Tensor]:
        own = batches["labelled"]
        inputs = [cast(Tensor, part.inputs) for part in (own, batches["text"])]
        logits = model(torch.cat(inputs))[POLARITY]
        known, free = logits.split([len(part) for part in inputs])
        guess = free.detach()
        counts = (guess.abs().sigmoid() > sure).to(free.dtype)
        each = F.binary_cross_entropy_with_logits(
            free, (guess > 0).to(free.dtype), reduction="none"
        )
        label = TASKS[0].loss(known, own.targets[POLARITY]).mean()
        return {POLARITY: label, PSEUDO: (each * counts).mean()}

    return Objective((POLARITY, PSEUDO), compute)


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Contestants with equally many trials, steps and labelled texts a step.

    Attributes:
        page: whose seeds and device are used.
        texts: from a seed to its texts; asked for several times.
        settings: of training and network.
        trials: what single-task training tries; the others have fewer of these, times λ.
        joint: what the others try with each λ.
        strengths: λ of the hints.
        pseudo_strengths: λ of the network's own guesses.
        batch: rows of each stream a step.
        seeds: others than the page's.
    """

    page: Page
    texts: Callable[[int], Texts]
    settings: Mapping[str, Any]
    trials: Trials
    joint: Trials
    strengths: Sequence[float]
    pseudo_joint: Trials
    pseudo_strengths: Sequence[float]
    batch: int = 32
    seeds: Sequence[int] | None = None

    @cached_property
    def example(self) -> Texts:
        """The first seed's texts."""
        return self.texts((self.seeds or self.page.seeds)[0])

    @property
    def common(self) -> dict[str, Any]:
        """What is the same for all."""
        return {
            "sampler": Balanced(self.batch),
            "evaluate_on": ["validation", "test"],
            "seeds": self.seeds,
        } | dict(self.settings)

    def single_task(self) -> Selected:
        """Labelled texts alone."""
        split = self.example.split(hints=2)
        data = self._hinted()
        return alone(self.page, mlp, data, POLARITY, trials=self.trials, split=split, **self.common)

    def hints(self, *, masked: bool = True, target: bool = True, shuffle: bool = False) -> Selected:
        """Beside the hints.

        Arguments:
            masked: whether the pivots are taken out of the texts with the hints.
            target: whether there are hints on the target's texts, too.
            shuffle: the control, hints permuted among the texts.
        """
        return beside(
            self.page,
            mlp,
            self._hinted(masked=masked, target=target, shuffle=shuffle),
            POLARITY,
            [HINTS],
            values=self.strengths,
            trials=self.joint,
            split=self.example.split(hints=1 + target),
            **self.common,
        )

    def pivots_as_inputs(self) -> Selected:
        """Labelled texts alone, with the hints as two more inputs."""
        return alone(
            self.page,
            mlp,
            lambda seed: self.texts(seed).with_pivots_as_inputs(),
            POLARITY,
            trials=self.trials,
            split=self.example.split(),
            **self.common,
        )

    def self_training(self) -> Selected:
        """Labelled texts, and the network's own guesses on the target's texts."""
        rows = {"labelled": RowsOf("train", POLARITY), "text": RowsOf("unlabelled")}
        combiners = {
            f"λ {value:g}": {"combiner": LinearScalarisation({POLARITY: 1.0, PSEUDO: value})}
            for value in self.pseudo_strengths
        }
        common: dict[str, Any] = self.common
        common["sampler"] = Streams(self.batch, rows=rows)
        return tuned(
            self.page,
            mlp,
            lambda seed: self.texts(seed).with_unlabelled(),
            crossed(combiners, self.pseudo_joint),
            objective=self_training(),
            stopping=POLARITY,
            split=self.example.split(unlabelled=1),
            **common,
        )

    def zero_weight_gap(self) -> float:
        """How far λ = 0 is from single-task training: exactly 0."""
        first = next(iter(self.joint.values()))
        split, settings = self.example.split(hints=2), self.common | dict(first)
        return zero_weight_gap(
            self.page, mlp, self._hinted(), POLARITY, [HINTS], split=split, **settings
        )

    def _hinted(
        self, *, masked: bool = True, target: bool = True, shuffle: bool = False
    ) -> Callable[[int], MultiTaskData]:
        def data(seed: int) -> MultiTaskData:
            made = self.texts(seed).with_hints(masked=masked, target=target)
            return shuffled(made, HINTS, seed) if shuffle else made

        return data


def chosen_in_target(
    selected: Selected, texts: Callable[[int], Texts], labels: int = 200
) -> Float[np.ndarray, " seeds"]:
    """Test errors where a trial is chosen by labels of the target, as Yu and Jiang's code does.

    Arguments:
        selected: the trials.
        texts: of each seed.
        labels: how many of the test texts choose the trial; the error is that of the others.
    """
    trials = list(selected.fits.values())
    errors = []
    for place, seed in enumerate(trials[0].seeds):
        truth = texts(seed).test.labels[:, 0].numpy() > 0
        wrong = np.stack(
            [(fit.predictions[POLARITY][place, : len(truth), 0] > 0) != truth for fit in trials]
        )
        best = wrong[:, :labels].mean(1).argmin()
        errors.append(wrong[best, labels:].mean())
    return np.array(errors)


def world(page: Page, *, seeds: Sequence[int] | None = None, **dials: Any) -> Contest:
    """The contestants on constructed texts; the dials are those of `constructed`."""
    made: dict[int, Texts] = {}

    def texts(seed: int) -> Texts:
        if seed not in made:
            made[seed] = constructed(seed, **dials)
        return made[seed]

    return Contest(
        page=page,
        seeds=seeds,
        texts=texts,
        settings={"width": 16, "steps": 150, "validate_every": 25},
        trials=adamw_trials((0.03, 0.1), (0.1, 1.0, 2.0)),
        joint=adamw_trials((0.1,), (1.0, 2.0)),
        strengths=(1.0, 10.0, 30.0),
        pseudo_joint=adamw_trials((0.03, 0.1), (0.03, 0.3, 1.0)),
        pseudo_strengths=(1.0,),
    )


def polarity_of_words(trained: Selected, texts: Callable[[int], Texts]) -> pd.DataFrame:
    """How much more a network takes a positive word of each kind for positive than a negative one.

    What a word adds to the logit of a text without words, the mean over the kind's positive words
    less that over its negative ones; a row a seed, a column a kind.
    """
    rows = []
    for seed in trained.choices.index:
        model = trained_network(trained, seed, POLARITY)
        words = texts(seed).test.words.shape[1]
        empty = torch.zeros(1, words, dtype=torch.float64)
        added = (model(torch.eye(words, dtype=torch.float64))[POLARITY] - model(empty)[POLARITY])[
            :, 0
        ]
        halves = {kind: added[words_of(kind)].chunk(2) for kind in ("pivots", "source", "target")}
        rows.append({kind: float(up.mean() - down.mean()) for kind, (down, up) in halves.items()})
    return pd.DataFrame(rows, index=trained.choices.index)
