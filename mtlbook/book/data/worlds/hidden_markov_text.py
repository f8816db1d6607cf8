r"""Home of representation learning (section 7.8): text whose tags are the states of a Markov chain.

What a word is likely to be followed by depends on its tag, and on nothing else: who learns to
predict the next word from few tags learns the tags. With flat transitions neighbours say nothing
about each other, and a language model has nothing to learn but how frequent the words are.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.data.synthetic import SyntheticDataset, check_counts, check_shares
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.tasks import Task


def hidden_markov_text(
    seed: int,
    *,
    rows: int,
    length: int = 8,
    words: int = 240,
    tags: int = 12,
    sharpness: float = 0.8,
    ambiguity: float = 0.1,
    frequency: float = 1.0,
) -> SyntheticDataset:
    r"""Sentences from a hidden Markov model, each word tagged by the state that emitted it.

    The first state $z_1$ is drawn alike from all $K$. With the probability $s$ (`sharpness`) the
    next one is the successor of the present one on a random circle through all states, and else it
    is drawn alike from all:

    $$P(z_{t+1} = j \mid z_t = i) = s\,[j = \pi(i)] + (1 - s) / K,$$

    so that every state is equally frequent for every $s$. Each word belongs to one state. A state
    emits, with the probability $a$ (`ambiguity`), any of all words, and else one of its own; among
    those that can come, the word of rank $r$ of its state has a probability proportional to
    $r^{-f}$.

    Arguments:
        seed: of everything drawn.
        rows: sentences; the first rows are the same for any number.
        length: words a sentence.
        words: a multiple of `tags`.
        tags: K, at least 2.
        sharpness: s, the dial. At 0, the negative control, states and words are drawn one by one.
        ambiguity: a. At 1 words say nothing about states.
        frequency: f of the words; at 0 all words of a state are equally frequent.

    Returns:
        One task, `tag`. Inputs `tokens`, `(sentences, length, 1)` numbers from 1 (0 is left for
        padding), and `mask`, which is true throughout. `noiseless` has the most probable tag of
        each position given the whole sentence, and `least_loss` the mean entropy of that
        posterior: what the best possible tagger reaches.

    Raises:
        UsageError: for counts below 1, fewer than two tags, words that are no multiple of them, or
            shares that are none.

    Example:
        >>> made = hidden_markov_text(0, rows=3)
        >>> made.data.inputs["tokens"].shape, made.data.targets["tag"].shape
        (torch.Size([3, 8, 1]), torch.Size([3, 8]))
    """
    check_counts(rows=rows, length=length, words=words)
    check_counts(2, tags=tags)
    check_shares(sharpness=sharpness, ambiguity=ambiguity)
    if words % tags:
        raise UsageError(f"{words} words cannot be shared out among {tags} tags: take a multiple.")
    transition, emission = chain(
        seed, words, tags, sharpness=sharpness, ambiguity=ambiguity, frequency=frequency
    )
    drawn = torch.rand(rows, length, 2, generator=generator(seed, "text"), dtype=torch.float64)
    state = (drawn[:, 0, 0] * tags).long()
    path, symbols = [], []
    for place in range(length):
        if place:
            state = _chosen(transition[state], drawn[:, place, 0])
        path.append(state)
        symbols.append(_chosen(emission[state], drawn[:, place, 1]))
    tag, word = torch.stack(path, 1), torch.stack(symbols, 1)
    posterior = posteriors(word, transition, emission)
    entropy = -torch.xlogy(posterior, posterior).sum(-1).mean()
    inputs = {"tokens": word[..., None] + 1, "mask": torch.ones(rows, length, dtype=torch.bool)}
    return SyntheticDataset(
        MultiTaskData.multi_label([Task.tagging("tag", tags, "error rate")], inputs, {"tag": tag}),
        {"tag": posterior.argmax(-1)},
        least_loss={"tag": float(entropy)},
    )


def chain(
    seed: int, words: int, states: int, *, sharpness: float, ambiguity: float, frequency: float
) -> tuple[Float[Tensor, "states states"], Float[Tensor, "states words"]]:
    """The probabilities of the next state given a state, and of a word given its state."""
    order = torch.randperm(states, generator=generator(seed, "circle"))
    following = torch.empty_like(order)
    following[order] = order.roll(-1)
    transition = torch.full((states, states), (1 - sharpness) / states, dtype=torch.float64)
    transition[torch.arange(states), following] += sharpness
    owner = torch.randperm(words, generator=generator(seed, "words of states")) % states
    own = torch.nn.functional.one_hot(owner, states).T.double()
    # A word's rank is that among the words of its state.
    rank = (own.cumsum(1) * own).sum(0)
    weight = rank**-frequency
    of_state = own * weight
    every = weight / weight.sum()
    emission = (1 - ambiguity) * of_state / of_state.sum(1, keepdim=True) + ambiguity * every
    return transition, emission


def posteriors(
    word: Int[Tensor, "rows length"],
    transition: Float[Tensor, "states states"],
    emission: Float[Tensor, "states words"],
) -> Float[Tensor, "rows length states"]:
    """Each position's probabilities of the states given the whole sentence (forward–backward)."""
    seen = emission.T[word]
    states, length = len(transition), word.shape[1]
    ahead = [seen[:, 0] / states]
    back = [torch.ones_like(ahead[0])]
    for place in range(1, length):
        ahead.append(_normal(ahead[-1]) @ transition * seen[:, place])
        back.append(_normal(back[-1] * seen[:, length - place]) @ transition.T)
    return _normal(torch.stack(ahead, 1) * torch.stack(back[::-1], 1))


def _normal(values: Float[Tensor, "*shape states"]) -> Float[Tensor, "*shape states"]:
    return values / values.sum(-1, keepdim=True)


def _chosen(
    probabilities: Float[Tensor, "rows choices"], uniform: Float[Tensor, " rows"]
) -> Int[Tensor, " rows"]:
    ends = probabilities.cumsum(1)
    chosen = torch.searchsorted(ends, uniform[:, None].contiguous(), right=True)[:, 0]
    return chosen.clamp(max=probabilities.shape[1] - 1)
