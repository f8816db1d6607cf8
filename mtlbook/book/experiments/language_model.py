"""Section 7.8's contestants: a tagger alone, beside a language model, and after one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from mtlbook.auxiliary.language_model import (
    DIRECTIONS,
    LanguageModelHead,
    Vocabulary,
    add_language_model,
)
from mtlbook.book.experiments.training import Trials, adam, crossed
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.layers.causal_window import CausalWindow
from mtlbook.layers.recurrent import LSTM
from mtlbook.layers.stages import named
from mtlbook.layers.tagging import Masked, TagHead, Words
from mtlbook.metrics import IGNORED
from mtlbook.randomness import generator
from mtlbook.tasks import CrossEntropy
from mtlbook.training.context import Batch, StepContext
from mtlbook.training.objective import Losses, Objective
from mtlbook.training.results import Fit
from mtlbook.training.sampling import Mixed, RowsOf, Streams
from mtlbook.training.selection import Selected, select
from mtlbook.transfer.fine_tuning import fine_tuning
from mtlbook.weighting.linear_scalarisation import LinearScalarisation

Corpus = Callable[[int], MultiTaskData]


class Tagger(nn.Module):
    """A trunk and a head for each task, on sentences: `{"tokens", "mask"}`.

    Arguments:
        stages: the trunk, from the word vectors on.
        heads: by task, from the trunk's states to the prediction.
    """

    def __init__(self, stages: Sequence[nn.Module], heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*stages)
        self.heads = named(heads)

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each task's prediction, `(sentences, outputs, length)`."""
        states = self.trunk(inputs)
        return {name: head(states) for name, head in self.heads.items()}


def tagger(
    data: MultiTaskData,
    seed: int,  # noqa: ARG001
    *,
    symbols: int,
    width: int = 12,
    reach: int = 2,
    dropout: float = 0.0,
    recurrent: bool = False,
) -> Tagger:
    """Word vectors, a reader of both directions, and a head for each of the data's tasks.

    Arguments:
        data: with the tasks that are trained.
        seed: what every `build` is given, too.
        symbols: numbers that a token can have, 0 for padding included.
        width: entries of a word's vector, units of each direction and of a language model's layer.
        reach: words that each direction sees beside the present one.
        dropout: of the word vectors, and of the reader's states.
        recurrent: whether the reader is an LSTM of separate directions, which sees all words.
    """
    read = (
        LSTM(width, width, separate=True) if recurrent else CausalWindow(width, width, reach=reach)
    )
    stages = [Words(symbols, width), Dropped(dropout), Masked(read), Dropped(dropout)]

    def head(name: str, outputs: int) -> nn.Module:
        for way in DIRECTIONS:
            if name == way:
                return LanguageModelHead(way, width, hidden=width, classes=outputs)
        return TagHead(2 * width, outputs)

    return Tagger(stages, {own.name: head(own.name, own.outputs) for own in data.tasks})


class Dropped(nn.Module):
    """Dropout of states on their way through a stack of sequences."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(probability) if probability else nn.Identity()

    def forward(self, states: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The states, some entries of them 0 while training."""
        return {**states, "states": self.dropout(states["states"])}


@dataclass(frozen=True, kw_only=True)
class LanguageModels:
    """An experiment: a tagging of few sentences, beside a language model of these or of more.

    Every contestant has equally many trials and steps, and takes for each seed the trial and the
    step with the least validation loss of the tagging.

    Attributes:
        search: trains trials, as `training.search` with its page given.
        build: makes the tagger, as `tagger` with its sizes given; its dial is `dropout`.
        data: from a seed to tagged sentences.
        split: its training part has the tagged sentences and those that are text alone.
        labels: training sentences with tags.
        task: the tagging.
        most: words with a class of their own.
        steps: of each training; a step sees `batch` sentences.
        batch: see `steps`.
        rate: of Adam.
        gammas: γ, the weights of the language model that are tried.
        dropouts: tried with each γ.
        alone_dropouts: tried without a language model, as many as there are trials with one.
        predictions: whether the trials keep the tags that they predict, which take much room.
    """

    search: Callable[..., dict[str, Fit]]
    build: Callable[..., Tagger]
    data: Corpus
    split: Holdout
    labels: int
    task: str = "tag"
    most: int = 40
    steps: int = 100
    batch: int = 8
    rate: float = 0.05
    gammas: tuple[float, ...] = (0.1, 1.0)
    dropouts: tuple[float, ...] = (0.2, 0.4)
    alone_dropouts: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6)
    predictions: bool = False

    def corpus(self, *, text: bool = False, shuffled: bool = False) -> Corpus:
        """For each seed its sentences with a language model's tasks, by its training sentences.

        Arguments:
            text: whether the untagged training sentences may be read.
            shuffled: whether the neighbours are permuted among all words: the control.
        """

        @cache
        def made(seed: int) -> MultiTaskData:
            own = self.data(seed)
            tokens, mask = own.inputs["tokens"][..., 0], own.inputs["mask"]
            # A split depends on the names of the tasks: it is drawn with the words of all rows,
            # which are then forgotten.
            every = torch.arange(own.rows)
            draft = add_language_model(own, Vocabulary.of(tokens, mask, self.most), training=every)
            rows = self._split(self.task, *DIRECTIONS).draw(draft, seed)
            known = torch.cat([rows.train, rows.unlabelled]) if text else rows.train
            vocabulary = Vocabulary.of(tokens[known], mask[known], self.most)
            both = add_language_model(own, vocabulary, training=known)
            if not shuffled:
                return both
            targets = {way: permuted(both.targets[way], seed, way) for way in DIRECTIONS}
            return MultiTaskData(both.tasks, both.inputs, both.targets | targets, both.labelled)

        return made

    def alone(self) -> Selected:
        """The tagger without a language model, with as many trials, all of dropout."""
        return select(self._searched(self.corpus(), self._dropouts, **self._tags), each_task=True)

    def beside(self, *, shuffled: bool = False) -> Selected:
        """The tagger beside a language model of the tagged sentences."""
        split = self._split(self.task, *DIRECTIONS)
        data = self.corpus(shuffled=shuffled)
        return select(self._searched(data, self._trials, split=split), each_task=True)

    def with_text(self, *, shuffled: bool = False) -> Selected:
        """The tagger beside a language model of tagged and further, untagged sentences.

        A step sees `batch` tagged sentences for the tags' loss, and as many of all sentences for
        the language model's.
        """
        streams = {"tagged": RowsOf(task=self.task), "text": RowsOf(task=DIRECTIONS[0])}
        found = self._searched(
            self.corpus(text=True, shuffled=shuffled),
            self._trials,
            split=self._split(self.task),
            sampler=Streams(self.batch, rows=streams),
            objective=two_streams(self.task),
        )
        return select(found, each_task=True)

    def pretrained(self, *, text: bool = True, share: float = 0.5) -> Selected:
        """A language model first and then the tagger, in as many steps together.

        Each trial of the tagger begins with the language model of its own dropout.

        Arguments:
            text: whether the language model reads the untagged sentences, too.
            share: of the steps that the language model takes.
        """
        first = round(share * self.steps)
        found: dict[str, Fit] = {}
        for name, trial in self._dropouts.items():
            before = self._searched(
                self.corpus(text=text),
                {name: trial},
                split=self._split(*(() if text else DIRECTIONS)),
                tasks=DIRECTIONS,
                steps=first,
                stopping=None,
            )
            start = fine_tuning(before[name].model)
            rest = {"steps": self.steps - first, "start": start}
            found |= self._searched(self.corpus(), {name: trial}, **self._tags | rest)
        return select(found, each_task=True)

    def zero_gap(self) -> float:
        """The largest difference of predictions between γ = 0 and the tagger alone: 0."""
        dropout = {"dropout": self.dropouts[0]}
        zero = {self._gamma(0.0): {"combiner": self._weights(0.0)} | dropout}
        split = self._split(self.task, *DIRECTIONS)
        kept = replace(self, predictions=True)
        (own,) = kept._searched(self.corpus(), {"alone": dropout}, **self._tags).values()
        (joint,) = kept._searched(self.corpus(), zero, split=split).values()
        return float(np.abs(own.predictions[self.task] - joint.predictions[self.task]).max())

    @property
    def _tags(self) -> dict[str, Any]:
        """The settings of a training of the tagger alone."""
        return {"tasks": [self.task], "split": self._split(self.task, *DIRECTIONS)}

    @property
    def _dropouts(self) -> Trials:
        return {f"dropout {p:g}": {"dropout": p} for p in self.alone_dropouts}

    @property
    def _trials(self) -> Trials:
        gammas = {self._gamma(own): {"combiner": self._weights(own)} for own in self.gammas}
        return crossed(gammas, {f"dropout {p:g}": {"dropout": p} for p in self.dropouts})

    def _weights(self, gamma: float) -> LinearScalarisation:
        return LinearScalarisation({self.task: 1.0, **dict.fromkeys(DIRECTIONS, gamma)})

    @staticmethod
    def _gamma(value: float) -> str:
        return f"γ = {value:g}"

    def _split(self, *few: str) -> Holdout:
        """The split in which these tasks have `labels` training labels."""
        return replace(self.split, labels=dict.fromkeys(few, self.labels))

    def _searched(self, data: Corpus, trials: Trials, **settings: Any) -> dict[str, Fit]:
        common = {
            "steps": self.steps,
            "sampler": Mixed(self.batch),
            "optimiser": adam(self.rate),
            "stopping": self.task,
            "validate_every": max(1, self.steps // 5),
            "evaluate_on": ("validation", "test"),
        }
        found: dict[str, Fit] = {}
        for name, trial in trials.items():
            # One at a time: the predicted words of all take more than a gigabyte.
            fit = self.search(self.build, data, {name: trial}, **common | settings)[name]
            tags = {self.task} if self.predictions else set()
            kept = {task: own for task, own in fit.predictions.items() if task in tags}
            found[name] = replace(fit, predictions=kept)
        return found


def of_gamma(found: Selected, gamma: float) -> Selected:
    """Each seed's choice among the trials of one γ."""
    own = {name: fit for name, fit in found.fits.items() if name.startswith(f"γ = {gamma:g},")}
    return select(own, each_task=True)


def two_streams(task: str) -> Objective:
    """The tags' loss of one batch, `tagged`, and a language model's losses of another, `text`."""

    def compute(
        model: nn.Module,
        batches: Mapping[str, Batch],
        context: StepContext,  # noqa: ARG001
    ) -> Losses:
        tagged, text = batches["tagged"], batches["text"]
        both = tree_map(lambda *rows: torch.cat(rows), tagged.inputs, text.inputs)
        states = model.get_submodule("trunk")(both)
        rows = len(tagged.targets[task])
        ends = {name: (own[:rows], own[rows:]) for name, own in states.items()}
        losses = {}
        for name in (task, *DIRECTIONS):
            part, batch = (0, tagged) if name == task else (1, text)
            own = {key: value[part] for key, value in ends.items()}
            logits = model.get_submodule(f"heads.{name}")(own)
            losses[name] = CrossEntropy()(logits, batch.targets[name]).mean()
        return losses

    return Objective((task, *DIRECTIONS), compute)


def permuted(targets: Int[Tensor, "rows length"], seed: int, purpose: str) -> Tensor:
    """The known classes of all words in a random order: as frequent as before, and of no sense."""
    known = targets != IGNORED
    order = torch.randperm(int(known.sum()), generator=generator(seed, "permuted", purpose))
    values = targets.clone()
    values[known] = targets[known][order]
    return values
