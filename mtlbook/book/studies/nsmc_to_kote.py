r"""Section 7.3: hints from film reviews to comments of all kinds, in Korean.

Labels are known of film reviews (NSMC), the test is on comments from news, shops, videos and other
places (KOTE): is a text positive? NSMC's label comes from the rating. KOTE has 44 emotions and no
polarity: a comment is positive or negative where at least four in five of its positive and negative
emotions are of one side (`mtlbook.data.kote.polarity`), which is so for 8,108 of 10,000 comments,
35 % of them positive; the others are left out. Texts that both sets have are left out, too.

Each seed draws 3,200 labelled reviews (once only 400 of them), 400 reviews for validation, and of
KOTE 2,000 comments without labels and 2,000 for the test. A text's features are the 800 pairs and
triples of characters that occur in the most training texts, labelled or not. Pivots are the first
two syllables of words, where Korean has its stems: of each side the ten with the largest weighted
log-likelihood ratio among the labelled reviews, of those in 0.5 % of both domains' training texts
or more. They are masked in the *text*, before it is cut into features: triples overlap with pairs.

The contestants are those of the page (`mtlbook.book.experiments.hints`): labelled reviews alone;
hints on reviews and comments, masked, not masked, and shuffled; hints on the reviews alone; the
pivots as two more inputs; self-training. Each has six trials, of which the least validation loss
on *reviews* chooses one: no label of KOTE has a say. 32 hidden units, 150 steps with 32 texts of
each kind, float32. Metric: error rate on KOTE's test comments.

A minute and a half on one core. Fixed after pilots on seeds from 7000, where the first choice of
pivots, all pairs of characters, gave endings and stops.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.auxiliary.hints import check_vocabulary, masked_text, select_pivots
from mtlbook.book.data.worlds.two_domains import POLARITY
from mtlbook.book.experiments.hints import Contest, Part, Texts
from mtlbook.book.experiments.training import adamw_trials
from mtlbook.book.experiments.without_page import WithoutPage
from mtlbook.data import kote, nsmc
from mtlbook.randomness import generator

SECTION = "7.3"
DATA = ("nsmc", "kote")
SEEDS = 16

FEW, MANY = 400, 3200
VALIDATION, UNLABELLED, TEST = 400, 2000, 2000
FEATURES, PIVOTS, LEAST = 800, 10, 0.005
STEPS = 150
CANDIDATES = 2000
METRIC = "error rate"

Labelled = list[tuple[str, bool]]


def run(seeds: Sequence[int], device: str, steps: int = STEPS) -> pd.DataFrame:
    """Columns seed, labels, method, metric and value."""
    rows = []
    for labels in (FEW, MANY):
        contest = _contest(seeds, device, labels, steps)
        arms = {"single-task": contest.single_task, "hints": contest.hints}
        if labels == MANY:
            arms |= {
                "hints, not masked": lambda own=contest: own.hints(masked=False),
                "hints on labelled texts": lambda own=contest: own.hints(target=False),
                "hints, shuffled": lambda own=contest: own.hints(shuffle=True),
                "pivots as inputs": contest.pivots_as_inputs,
                "self-training": contest.self_training,
            }
        for method, train in arms.items():
            errors = train().score(POLARITY)
            rows += [
                {"seed": s, "labels": labels, "method": method, "metric": METRIC, "value": e}
                for s, e in zip(seeds, errors, strict=True)
            ]
    return pd.DataFrame(rows)


def _contest(seeds: Sequence[int], device: str, labels: int, steps: int) -> Contest:
    reviews, comments = domains()
    settings: dict[str, Any] = {
        "width": 32,
        "steps": steps,
        "validate_every": max(1, steps // 10),
        "dtype": torch.float32,
    }
    return Contest(
        page=WithoutPage(SECTION, seeds, device),
        seeds=seeds,
        texts=cache(lambda seed: drawn(reviews, comments, seed, labels)),
        settings=settings,
        trials=adamw_trials((0.01, 0.03), (0.1, 1.0, 3.0)),
        joint=adamw_trials((0.01, 0.03), (1.0,)),
        strengths=(0.1, 1.0, 3.0),
        pseudo_joint=adamw_trials((0.01, 0.03), (0.1, 1.0, 3.0)),
        pseudo_strengths=(1.0,),
    )


def domains() -> tuple[Labelled, Labelled]:
    """Reviews and comments with their polarity, each text once, none in both sets."""
    written = {own.text: own.positive for own in nsmc.load()}
    comments = {own.text: own.polarity for part in kote.FILES for own in kote.load(part)}
    reviews = [(text, label) for text, label in written.items() if text not in comments]
    known = [(text, label) for text, label in comments.items() if label is not None]
    return reviews, known


def drawn(reviews: Labelled, comments: Labelled, seed: int, labels: int) -> Texts:
    """A seed's texts; with more labels the fewer are among them, and the rest stays as it was."""
    checked, labelled = _deal(reviews, seed, "reviews", VALIDATION, labels)
    tested, free = _deal(comments, seed, "comments", TEST, UNLABELLED)
    training = [text for text, _ in labelled + free]
    sides = pivots(labelled, [text for text, _ in free])
    features = _most_frequent(map(grams, training), FEATURES)
    parts = [_part(own, features, sides) for own in (labelled, free, checked, tested)]
    check_vocabulary(torch.cat([parts[0].words, parts[1].words]), parts[3].words, features)
    return Texts(*parts)


def _deal(texts: Labelled, seed: int, name: str, first: int, second: int) -> list[Labelled]:
    order = torch.randperm(len(texts), generator=generator(seed, "texts", name)).tolist()
    return [[texts[i] for i in order[a:b]] for a, b in ((0, first), (first, first + second))]


def pivots(labelled: Labelled, elsewhere: Sequence[str]) -> tuple[list[str], list[str]]:
    """The positive and the negative pivots: chosen among labelled texts, common elsewhere, too."""
    own = [beginnings(text) for text, _ in labelled]
    other = [beginnings(text) for text in elsewhere]
    known = _most_frequent([*own, *other], CANDIDATES)
    chosen = select_pivots(
        _bags(own, known), _labels(labelled), PIVOTS, elsewhere=_bags(other, known), least=LEAST
    )
    positive, negative = (
        [known[column] for column in side] for side in (chosen.positive, chosen.negative)
    )
    return positive, negative


def beginnings(text: str) -> set[str]:
    """The first two syllables of each word in Hangul.

    Example:
        >>> sorted(beginnings("정말 재미있는 영화 ㅋㅋ good"))
        ['영화', '재미', '정말']
    """
    return {word[:2] for word in re.findall("[가-힣]{2,}", text)}


def grams(text: str, lengths: Sequence[int] = (2, 3)) -> set[str]:
    """The runs of so many characters without a blank.

    Example:
        >>> sorted(grams("좋은 영화"))
        ['영화', '좋은']
    """
    return {
        word[start : start + length]
        for word in text.split()
        for length in lengths
        for start in range(len(word) - length + 1)
    }


def _most_frequent(texts: Iterable[set[str]], size: int) -> list[str]:
    counts = Counter(gram for text in texts for gram in text)
    # Ties by the text itself: the order of a set is not the same in every process.
    return [gram for gram, _ in sorted(counts.items(), key=lambda own: (-own[1], own[0]))][:size]


def _bags(texts: Sequence[set[str]], vocabulary: Sequence[str]) -> Float[Tensor, "texts words"]:
    column = {gram: number for number, gram in enumerate(vocabulary)}
    found = torch.zeros(len(texts), len(vocabulary))
    for row, text in enumerate(texts):
        found[row, [column[gram] for gram in text if gram in column]] = 1
    return found


def _labels(texts: Labelled) -> Float[Tensor, "texts 1"]:
    return torch.tensor([[float(label)] for _, label in texts])


def _part(texts: Labelled, features: Sequence[str], sides: Sequence[Sequence[str]]) -> Part:
    plain = [text for text, _ in texts]
    both = [pivot for side in sides for pivot in side]
    hints = [[float(any(pivot in text for pivot in side)) for side in sides] for text in plain]
    whole, masked = (
        _bags([grams(text) for text in own], features)
        for own in (plain, [masked_text(text, both) for text in plain])
    )
    return Part(whole, masked, torch.tensor(hints), _labels(texts))
