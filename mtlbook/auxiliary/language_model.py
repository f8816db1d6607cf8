r"""Section 7.8, representation learning: a tagger that also predicts the words around each word.

Two directions read a sentence: →h_t knows the words up to t, ←h_t those from t on. The tagger sees
both; beside it →h_t predicts the next word and ←h_t the previous one, each through a layer of its
own (Rei, 2017; Ruder, 2017, section 7.8; the equations as the released code has them):

    →m_t = tanh(→W →h_t),     P(w_{t+1} | →m_t) = softmax(→W_q →m_t),
    ←m_t = tanh(←W ←h_t),     P(w_{t−1} | ←m_t) = softmax(←W_q ←m_t),
    E = E_lab + γ (→E + ←E),

with →E, ←E the negative log-likelihoods of the words. No label is needed for them: every sentence
brings two more labels a word, and unlabelled sentences bring rows. In `fit` they are two more tasks
(`add_language_model`) with the weight γ each; after training their heads are dropped.

The words of the softmax come from *training* sentences, the frequent ones alone, all others merged
into one class (`Vocabulary`). The paper's code has the 7,500 most frequent words, and γ = 0.1; by
its setting `vocab_include_devtest` it also knows which words the test sentences have.

**Where it fails.** The directions must stay apart: a layer that sees both has seen the word that it
is to predict. Neighbours that say nothing about each other leave nothing to learn but how frequent
words are. The softmax over the vocabulary costs a good part of the arithmetic, and at γ = 1 its
loss outweighs that of the tags.

The objective in a loop of one's own is `language_model_losses`:

    >>> tokens = torch.randint(1, 9, (4, 6), generator=torch.Generator().manual_seed(0))
    >>> mask, width = torch.ones_like(tokens, dtype=torch.bool), 3
    >>> vocabulary = Vocabulary.of(tokens, mask, most=5)
    >>> heads = [LanguageModelHead(way, width, 7, vocabulary.classes) for way in DIRECTIONS]
    >>> states = {"states": torch.zeros(4, 6, 2 * width), "mask": mask}
    >>> guesses = [head(states) for head in heads]
    >>> ahead, back = language_model_losses(guesses, tokens, mask, vocabulary)
    >>> tag_loss = torch.tensor(1.0)
    >>> loss = tag_loss + 0.1 * (ahead + back)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.layers.tagging import States
from mtlbook.metrics import IGNORED
from mtlbook.tasks import Task

Direction = Literal["next_word", "previous_word"]
DIRECTIONS: tuple[Direction, Direction] = ("next_word", "previous_word")


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The words that a language model tells apart, a class each, and one class for all others.

    Attributes:
        words: their numbers, in increasing order; the class of the other words is the last one.
        frequency: how often each class occurs where the vocabulary was made.

    Example:
        >>> tokens = torch.tensor([[5, 3, 5], [7, 5, 3]])
        >>> vocabulary = Vocabulary.of(tokens, torch.ones(2, 3, dtype=torch.bool), most=2)
        >>> vocabulary.words, vocabulary.classes, vocabulary(torch.tensor([3, 5, 7, 9]))
        (tensor([3, 5]), 3, tensor([0, 1, 2, 2]))
    """

    words: Int[Tensor, " words"]
    frequency: Int[Tensor, " classes"]

    @classmethod
    def of(
        cls,
        tokens: Int[Tensor, "sentences length"],
        mask: Bool[Tensor, "sentences length"],
        most: int,
    ) -> "Vocabulary":
        """The most frequent words of some sentences, which must be training sentences.

        Of equally frequent words the smaller number comes first.

        Arguments:
            tokens: the words' numbers.
            mask: False for padding.
            most: how many words have a class of their own, at most.

        Raises:
            UsageError: for less than one word, or sentences without any.
        """
        if most < 1 or not bool(mask.any()):
            raise UsageError(
                f"A vocabulary of the {most} most frequent of {int(mask.sum())} words has nothing "
                "to predict: give training sentences, and ask for at least one word."
            )
        words, counts = torch.unique(tokens[mask], return_counts=True)
        kept = torch.sort(counts, descending=True, stable=True).indices[:most].sort().values
        rest = counts.sum() - counts[kept].sum()
        return cls(words[kept], torch.cat([counts[kept], rest[None]]))

    @property
    def classes(self) -> int:
        """How many classes a softmax has."""
        return len(self.words) + 1

    def __call__(self, tokens: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """The class of each word."""
        tokens, words = tokens.contiguous(), self.words.to(tokens.device)
        place = torch.searchsorted(words, tokens).clamp(max=len(words) - 1)
        return torch.where(words[place] == tokens, place, len(words))

    def check(
        self, tokens: Int[Tensor, "sentences length"], mask: Bool[Tensor, "sentences length"]
    ) -> None:
        """Refuse a vocabulary with words that the training sentences do not have.

        Such a word can only come from validation or test text. Counts that are too high for these
        sentences are found out as well.

        Arguments:
            tokens: of the training sentences.
            mask: False for padding.

        Raises:
            UsageError: with the words named.
        """
        known, counts = torch.unique(tokens[mask], return_counts=True)
        foreign = self.words[~torch.isin(self.words, known)].tolist()
        if foreign:
            raise UsageError(
                f"The vocabulary has {len(foreign)} words that are in no training sentence "
                f"({', '.join(map(str, foreign[:5]))}{', …' if len(foreign) > 5 else ''}): it was "
                "made from validation or test text. Make it from the training sentences alone, by "
                "Vocabulary.of(tokens[train], mask[train], most=…)."
            )
        here = counts[torch.searchsorted(known, self.words)]
        if bool((self.frequency[:-1] > here).any()) or int(self.frequency.sum()) > int(mask.sum()):
            raise UsageError(
                f"The vocabulary was counted over {int(self.frequency.sum())} words, and the "
                f"training sentences have {int(mask.sum())}: it was made from other sentences, "
                "too. Make it from the training sentences alone."
            )


def neighbour_classes(
    tokens: Int[Tensor, "sentences length"],
    mask: Bool[Tensor, "sentences length"],
    vocabulary: Vocabulary,
) -> dict[Direction, Int[Tensor, "sentences length"]]:
    """What each position is to predict: the class of the next, and of the previous word.

    The last word of a sentence has no next one and the first no previous one: `IGNORED`.

    Example:
        >>> tokens = torch.tensor([[5, 3, 5, 0]])
        >>> vocabulary = Vocabulary.of(tokens, tokens > 0, most=2)
        >>> neighbour_classes(tokens, tokens > 0, vocabulary)["next_word"]
        tensor([[   0,    1, -100, -100]])
    """
    own = torch.where(mask, vocabulary(tokens), IGNORED)
    after = F.pad(own[:, 1:], (0, 1), value=IGNORED)
    before = F.pad(own[:, :-1], (1, 0), value=IGNORED)
    return {
        "next_word": torch.where(mask, after, IGNORED),
        "previous_word": torch.where(mask, before, IGNORED),
    }


def add_language_model(
    data: MultiTaskData,
    vocabulary: Vocabulary,
    *,
    training: Int[Tensor, " rows"],
    length: float | None = None,
) -> MultiTaskData:
    """Tagged sentences with the two tasks of a language model behind their own.

    Every sentence is labelled for both, also one without tags. Weigh them by γ each:
    `LinearScalarisation({"tag": 1.0, "next_word": 0.1, "previous_word": 0.1})`.

    Arguments:
        data: with the inputs `tokens`, `(sentences, length, columns)`, of which the first column is
            the word, and `mask`.
        vocabulary: made from training sentences.
        training: the rows that the vocabulary may know.
        length: the number of words that a sentence's loss is divided by, as in `Task.tagging`.

    Raises:
        UsageError: for inputs without tokens and mask, and for a vocabulary that was made from
            other sentences than the training rows, where that can be seen.

    Example:
        >>> tokens = torch.tensor([[[4], [7], [2]], [[4], [1], [0]]])
        >>> inputs = {"tokens": tokens, "mask": tokens[..., 0] > 0}
        >>> tags = {"tag": torch.tensor([[0, 1, 1], [1, 0, IGNORED]])}
        >>> data = MultiTaskData.multi_label([Task.tagging("tag", 2)], inputs, tags)
        >>> vocabulary = Vocabulary.of(tokens[:1, :, 0], inputs["mask"][:1], most=2)
        >>> both = add_language_model(data, vocabulary, training=torch.tensor([0]))
        >>> [(task.name, task.outputs) for task in both.tasks]
        [('tag', 2), ('next_word', 3), ('previous_word', 3)]
    """
    if isinstance(data.inputs, Tensor) or not {"tokens", "mask"} <= set(data.inputs):
        raise UsageError(
            "A language model reads the inputs 'tokens', (sentences, length, columns), and 'mask': "
            "give a dictionary with both."
        )
    tokens, mask = data.inputs["tokens"][..., 0], data.inputs["mask"]
    vocabulary.check(tokens[training], mask[training])
    targets = neighbour_classes(tokens, mask, vocabulary)
    tasks = [Task.tagging(way, vocabulary.classes, length=length) for way in DIRECTIONS]
    every = torch.ones(data.rows, dtype=torch.bool)
    return MultiTaskData(
        (*data.tasks, *tasks),
        data.inputs,
        data.targets | targets,
        data.labelled | dict.fromkeys(DIRECTIONS, every),
    )


class LanguageModelHead(nn.Module):
    """The logits of a neighbouring word from the states of one direction: softmax(W_q tanh(W h)).

    Arguments:
        direction: `next_word` reads the first half of the states, →h, and `previous_word` the
            second, ←h.
        width: features of one direction.
        hidden: units of the head's own layer; 50 in the paper.
        classes: of the vocabulary.

    Raises:
        UsageError: for another direction.

    Example:
        >>> head = LanguageModelHead("next_word", width=8, hidden=5, classes=20)
        >>> head({"states": torch.ones(2, 7, 16)}).shape
        torch.Size([2, 20, 7])
    """

    def __init__(self, direction: str, width: int, hidden: int, classes: int) -> None:
        super().__init__()
        if direction not in DIRECTIONS:
            raise UsageError(f"A direction is one of {list(DIRECTIONS)}, not {direction!r}.")
        self.first = 0 if direction == "next_word" else width
        self.width = width
        self.own = nn.Linear(width, hidden)
        self.words = nn.Linear(hidden, classes)

    def forward(self, states: States) -> Float[Tensor, "sentences classes length"]:
        """The logits of each class."""
        seen = states["states"][..., self.first : self.first + self.width]
        return self.words(self.own(seen).tanh()).movedim(-1, 1)


def language_model_losses(
    predictions: Sequence[Float[Tensor, "sentences classes length"]]
    | Mapping[str, Float[Tensor, "sentences classes length"]],
    tokens: Int[Tensor, "sentences length"],
    mask: Bool[Tensor, "sentences length"],
    vocabulary: Vocabulary,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """→E and ←E as means over the words that have a neighbour; the paper's code has their sums.

    Arguments:
        predictions: the logits of the next and of the previous word, in this order or by name.
        tokens: the words' numbers.
        mask: False for padding.
        vocabulary: made from training sentences.
    """
    if isinstance(predictions, Mapping):
        predictions = [predictions[way] for way in DIRECTIONS]
    targets = neighbour_classes(tokens, mask, vocabulary)
    ahead, back = (
        F.cross_entropy(logits, targets[way], ignore_index=IGNORED)
        for logits, way in zip(predictions, DIRECTIONS, strict=True)
    )
    return ahead, back
