"""One body of data that every relative of multi-task learning can read in its own way.

The first half of the rows carries the labels of a target task, the second half those of a related
task; the target's rows carry the related label, too. Which labels a method may see decides which
relative it is.
"""

from collections.abc import Callable
from functools import cache

import torch
from jaxtyping import Shaped
from torch import Tensor

from mtlbook.data import MultiTaskData, constructed, embedded
from mtlbook.randomness import generator
from mtlbook.tasks import Task

CONSTRUCTED_ROWS = 2 * 2628  # 2,000 training, 128 validation and 500 test rows a half
ATTRIBUTES = "parity", "loop", "above_four"

_digits = cache(embedded.digits)  # the same images for every seed


@cache  # each contestant asks for each seed's data
def relatives(dataset: str, shared_features: float, seed: int) -> MultiTaskData:
    """The tasks `target`, `related_elsewhere` and, where it exists, `related_here`.

    Arguments:
        dataset: `related_tasks` (constructed: two regressions), `digits` (the digit; the related
            task is three of its attributes) or `digit_domains` (digits turned by 90°; the related
            task is upright digits, whose images are never seen turned).
        shared_features: ρ, how much of their features the constructed tasks have in common.
        seed: of the draw, or of the division into halves.
    """
    return _MAKERS[dataset](shared_features, seed)


def halves(
    inputs: Shaped[Tensor, "rows ..."],
    target: tuple[Task, Shaped[Tensor, "rows ..."]],
    related: tuple[Task, Shaped[Tensor, "rows ..."]],
    *,
    same_inputs: bool,
) -> MultiTaskData:
    """The target's labels on the first half of the rows, the related task's on the second.

    With `same_inputs` the related task's labels stand on the first half, too, as a task of their
    own.
    """
    first = torch.arange(len(inputs)) < len(inputs) // 2
    (task, labels), (other, other_labels) = target, related
    marks = {"target": first, "related_elsewhere": ~first}
    if same_inputs:
        marks["related_here"] = first
    own = {name: (task, labels) if name == "target" else (other, other_labels) for name in marks}
    return MultiTaskData.partial(
        [one.renamed(name) for name, (one, _) in own.items()],
        inputs,
        {name: values for name, (_, values) in own.items()},
        marks,
    )


def _constructed(shared_features: float, seed: int) -> MultiTaskData:
    drawn = constructed.related_tasks(
        seed, tasks=2, rows=CONSTRUCTED_ROWS, shared_features=shared_features, same_inputs=True
    ).data
    target, related = (
        (Task.regression(name), drawn.targets[task.name])
        for name, task in zip(("target", "related"), drawn.tasks, strict=True)
    )
    return halves(drawn.inputs, target, related, same_inputs=True)


def _attributes_of_digits(_: float, seed: int) -> MultiTaskData:
    drawn = _digits("digit", *ATTRIBUTES)
    order = torch.randperm(len(drawn.inputs), generator=generator(seed, "halves"))
    attributes = torch.cat([drawn.targets[name] for name in ATTRIBUTES], 1)
    return halves(
        drawn.inputs[order],
        (_recognition(), drawn.targets["digit"][order]),
        (Task.binary("related", outputs=len(ATTRIBUTES)), attributes[order]),
        same_inputs=True,
    )


def _turned_digits(_: float, seed: int) -> MultiTaskData:
    drawn = embedded.digit_domains("rotated_90", "upright", seed=seed)
    label = drawn.targets["rotated_90"] + drawn.targets["upright"]  # zero where not labelled
    one = _recognition(), label
    return halves(drawn.inputs, one, one, same_inputs=False)


def _recognition() -> Task:
    return Task.classification("target", classes=10, metric="error rate")


_MAKERS: dict[str, Callable[[float, int], MultiTaskData]] = {
    "related_tasks": _constructed,
    "digits": _attributes_of_digits,
    "digit_domains": _turned_digits,
}
