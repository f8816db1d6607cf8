r"""Home of low supervision (section 6.4): tags that are functions of the tags one level below.

A sentence's words decide the tags of the lowest level, and each level's tags those of the next, so
that a network with a layer for each level can learn them where they arise. The top task sees few
labels; the lower ones show what it is made of.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.data.synthetic import SyntheticDataset, check_counts, check_shares
from mtlbook.randomness import generator, standard_normal
from mtlbook.tasks import Task


def layered_tagging(
    seed: int,
    *,
    rows: int,
    tasks: Sequence[str] = ("low", "main"),
    length: int = 8,
    words: int = 30,
    tags: int = 4,
    layered: bool = True,
    noise: float = 0.05,
    domains: int = 1,
) -> SyntheticDataset:
    r"""Sentences of random words, and levels of tags of which each depends on the one below.

    With words $w_i$ drawn alike, $z^0 = w$ and levels $l = 1, 2, \dots$, one a task,

    $$z^l_i = \operatorname{argmax}_k \sum_{j=-1}^{1} S^l_{j}[z^{l-1}_{i+j}, k],$$

    where the entries of $S^l_j$ are $N(0, 1)$, centred over the symbols below, and what lies beyond
    an end of the sentence adds nothing. So $z^l_i$ depends on $2l + 1$ words. An observed tag is
    $z^l_i$, or with the probability `noise` one drawn from all; each level is made from
    the noiseless tags below.

    The sentences of a further domain have words of their own, with an $S^1$ of their own: what the
    words mean differs, and what follows from it does not.

    Arguments:
        seed: of everything drawn.
        rows: sentences, each labelled for all tasks; the first rows are the same for any number.
        tasks: their names, from the lowest level on.
        length: words a sentence.
        words: of each domain.
        tags: of each level.
        layered: whether every task reads the tags of the task below. With False, the negative
            control, each has lower levels of its own, drawn alike, that no other task sees.
        noise: the share of observed tags that are drawn at random.
        domains: how many; the sentence n is of the domain n modulo their number.

    Returns:
        Inputs `tokens`, `(sentences, length, 1)` numbers from 1 (0 is left for padding), and
        `mask`, which is true throughout.

    Raises:
        UsageError: for counts below 1, fewer than two tags, or a noise that is no share.

    Example:
        >>> made = layered_tagging(0, rows=3)
        >>> made.data.inputs["tokens"].shape, made.data.targets["main"].shape
        (torch.Size([3, 8, 1]), torch.Size([3, 8]))
        >>> [task.name for task in made.data.tasks]
        ['low', 'main']
    """
    check_counts(rows=rows, tasks=len(tasks), length=length, words=words, domains=domains)
    check_counts(2, tags=tags)
    check_shares(noise=noise)
    source = generator(seed, "words")
    drawn = torch.rand(rows, length, generator=source, dtype=torch.float64)
    domain = torch.arange(rows)[:, None] % domains
    symbols = (drawn * words).long() + words * domain
    noiseless, targets = {}, {}
    common = symbols
    for level, name in enumerate(tasks, start=1):
        if layered:
            common = _next(common, seed, level, "common", words, domains, tags)
            noiseless[name] = common
        else:
            own = symbols
            for below in range(1, level + 1):
                own = _next(own, seed, below, name, words, domains, tags)
            noiseless[name] = own
        targets[name] = _replaced(noiseless[name], tags, noise, generator(seed, "noise", name))
    inputs = {"tokens": symbols[..., None] + 1, "mask": torch.ones(rows, length, dtype=torch.bool)}
    known = [Task.tagging(name, tags, "error rate") for name in tasks]
    right = torch.tensor(1 - noise + noise / tags, dtype=torch.float64)
    wrong = torch.tensor(noise / tags, dtype=torch.float64)
    entropy = -torch.xlogy(right, right) - (tags - 1) * torch.xlogy(wrong, wrong)
    return SyntheticDataset(
        MultiTaskData.multi_label(known, inputs, targets),
        noiseless,
        least_loss=dict.fromkeys(tasks, float(entropy)),
    )


def _next(
    below: Int[Tensor, "rows length"],
    seed: int,
    level: int,
    owner: str,
    words: int,
    domains: int,
    tags: int,
) -> Int[Tensor, "rows length"]:
    """The tags of a level from the symbols below."""
    scores = (
        torch.cat([_scores(seed, words, tags, level, owner, d) for d in range(domains)], dim=1)
        if level == 1
        else _scores(seed, tags, tags, level, owner)
    )
    padded = F.pad(scores, (0, 0, 0, 1))  # beyond the ends: the last symbol, which adds nothing
    around = F.pad(below, (1, 1), value=scores.shape[1])
    length = below.shape[1]
    shifts = enumerate(padded)
    return torch.stack([own[around[:, j : j + length]] for j, own in shifts]).sum(0).argmax(-1)


def _scores(seed: int, symbols: int, tags: int, *purpose: int | str) -> Float[Tensor, "3 below k"]:
    drawn = standard_normal(generator(seed, "scores", *purpose), 3, symbols, tags)
    return drawn - drawn.mean(1, keepdim=True)


def _replaced(
    tag: Int[Tensor, "rows length"], tags: int, noise: float, source: torch.Generator
) -> Int[Tensor, "rows length"]:
    # Both draws of a position together, so that fewer rows are the first of more.
    draws = torch.rand(*tag.shape, 2, generator=source, dtype=torch.float64)
    return torch.where(draws[..., 0] < noise, (draws[..., 1] * tags).long(), tag)
