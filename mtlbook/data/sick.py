"""SICK: pairs of sentences, how related they are and whether the first entails the second.

9,840 pairs made from captions of images and videos (Marelli et al., 2014), in three published
parts. Relatedness is a mean of ratings from 1 to 5. Many sentences stand in several pairs, also of
different parts.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.data import registry
from mtlbook.errors import UsageError

PARTS = {"train": "TRAIN", "dev": "TRIAL", "test": "TEST"}
RELATIONS = ("NEUTRAL", "ENTAILMENT", "CONTRADICTION")
SCORES = 5  # relatedness lies between 1 and this


@dataclass(frozen=True)
class Pair:
    """Two sentences with their two labels.

    Attributes:
        first, second: their words.
        relatedness: from 1 to 5.
        relation: one of `RELATIONS`, of the second sentence to the first.
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    relatedness: float
    relation: str


def load(part: str = "train") -> list[Pair]:
    """The pairs of a published part, downloaded at the first call.

    Arguments:
        part: `train`, `dev` or `test`.

    Raises:
        UsageError: for another part.
    """
    if part not in PARTS:
        raise UsageError(f"There is no part {part!r}: choose one of {', '.join(PARTS)}.")
    return [own for name, own in read(registry.fetch("sick") / "SICK.txt") if name == PARTS[part]]


def read(file: Path) -> list[tuple[str, Pair]]:
    """Every pair with the name of its part, from the published table.

    Raises:
        UsageError: for a sentence without words, an unknown relation or an impossible score.
    """
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [(row["SemEval_set"], _pair(row)) for row in rows]


def _pair(row: dict[str, str]) -> Pair:
    first, second = (tuple(row[f"sentence_{which}"].split()) for which in "AB")
    pair = Pair(first, second, float(row["relatedness_score"]), row["entailment_label"])
    possible = pair.relation in RELATIONS and 1 <= pair.relatedness <= SCORES
    if not (first and second and possible):
        raise UsageError(
            f"Pair {row['pair_ID']} of SICK needs words in both sentences, one of the relations "
            f"{list(RELATIONS)} and a relatedness from 1 to {SCORES}: {pair}."
        )
    return pair


def distribution(scores: Sequence[float]) -> Float[Tensor, "pairs scores"]:
    """Each score as the distribution over 1 to 5 that has it as mean (Tai et al., 2015, eq. 15).

    A score between two whole numbers divides the weight between these.

    Example:
        >>> distribution([3.6, 5.0])
        tensor([[0.0000, 0.0000, 0.4000, 0.6000, 0.0000],
                [0.0000, 0.0000, 0.0000, 0.0000, 1.0000]], dtype=torch.float64)
    """
    score = torch.tensor(scores, dtype=torch.float64).unsqueeze(1)
    whole = torch.arange(1, SCORES + 1, dtype=torch.float64)
    return (1 - (score - whole).abs()).clamp(min=0)
