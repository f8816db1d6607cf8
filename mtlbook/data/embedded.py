"""Embedded data: what scikit-learn ships, as multi-task data; no network is needed.

Everything is float64. Pixels of the digits are divided by their largest possible value, 16. Tables
are in their own units; `mtlbook.data.scaling.scaled` puts one into units of a seed's training rows.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn import datasets
from torch import Tensor

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.tasks import Task

Images = Float[Tensor, "examples 8 8"]
Labels = Int[Tensor, " examples"]


def _one_of(label: Labels, members: list[int]) -> Float[Tensor, " examples"]:
    return torch.isin(label, torch.tensor(members)).double()


# The label of each task as a function of the digit that the image shows.
_DIGIT_TASKS: dict[str, tuple[Task, Callable[[Labels], Tensor]]] = {
    "digit": (Task.classification("digit", classes=10), lambda label: label),
    "parity": (Task.binary("parity"), partial(_one_of, members=[1, 3, 5, 7, 9])),
    "loop": (Task.binary("loop"), partial(_one_of, members=[0, 6, 8, 9])),
    "above_four": (Task.binary("above_four"), partial(_one_of, members=[5, 6, 7, 8, 9])),
    **{
        f"is_{digit}": (Task.binary(f"is_{digit}"), partial(_one_of, members=[digit]))
        for digit in range(10)
    },
}
DIGIT_TASKS = tuple(_DIGIT_TASKS)

# How each domain shows the same digit; "permuted" is drawn per seed and not in this table.
_RECIPES: dict[str, Callable[[Images], Tensor]] = {
    "upright": lambda images: images,
    "inverted": lambda images: 1 - images,
    "rotated_90": lambda images: images.rot90(1, (1, 2)),
    "rotated_180": lambda images: images.rot90(2, (1, 2)),
    "rotated_270": lambda images: images.rot90(3, (1, 2)),
    "mirrored": lambda images: images.flip(2),
    "transposed": lambda images: images.transpose(1, 2),
}
DIGIT_DOMAINS = (*_RECIPES, "permuted")


def digits(*tasks: str) -> MultiTaskData:
    """1,797 handwritten digits of 8 × 8 pixels, each image labelled for every task.

    Arguments:
        tasks: some of `DIGIT_TASKS` (without any: the first four): `digit` (10 classes), and the
            binary `parity` (1 = odd), `loop` (1 = the digit is drawn with a closed loop: 0, 6, 8
            or 9), `above_four` (1 = 5 to 9) and `is_0` to `is_9` (one digit against the rest).

    Returns:
        Multi-label data with 64 inputs between 0 and 1.
    """
    chosen = tasks or DIGIT_TASKS[:4]
    _check_names("task of the digits", chosen, DIGIT_TASKS)
    images, label = _digits()
    targets = {name: _DIGIT_TASKS[name][1](label) for name in chosen}
    return MultiTaskData.multi_label(
        [_DIGIT_TASKS[name][0] for name in chosen], images.flatten(1), targets
    )


def digit_domains(
    *domains: str, rows: int | None = None, seed: int = 0, codes: bool = False
) -> MultiTaskData:
    """The same ten digits in several domains: one data set and one task a domain, none shared.

    A shuffle of the 1,797 images is cut into disjoint parts, one for each domain in the order
    given, and each part is shown in its domain's way. In all but `permuted` (which moves the
    pixels by one fixed random permutation, so that no local structure is left) the images differ
    by a symmetry of the square or by their polarity.

    Arguments:
        domains: some of `DIGIT_DOMAINS`; without any: `upright`, `inverted` and `rotated_90`.
        rows: images in each domain; by default as many as the disjoint parts allow. With `rows`
            given, a further domain leaves the earlier ones as they are.
        seed: of the shuffle and of the permutation.
        codes: append the one-hot code of the domain to the input.
    """
    chosen = domains or DIGIT_DOMAINS[:3]
    _check_names("domain of the digits", chosen, DIGIT_DOMAINS)
    images, label = _digits()
    size = len(images) // len(chosen) if rows is None else rows
    if not 1 <= size * len(chosen) <= len(images):
        raise UsageError(
            f"{len(chosen)} disjoint domains of {size} rows cannot be made of the "
            f"{len(images)} digits: ask for 1 to {len(images) // len(chosen)} rows."
        )
    order = torch.randperm(len(images), generator=generator(seed, "digit domains"))
    pixels = torch.randperm(64, generator=generator(seed, "digit domains", "pixels"))
    recipes = _RECIPES | {"permuted": lambda shown: shown.flatten(1)[:, pixels]}
    sets = {}
    for number, domain in enumerate(chosen):
        part = order[number * size : (number + 1) * size]
        inputs = recipes[domain](images[part]).flatten(1)
        sets[Task.classification(domain, classes=10)] = (inputs, label[part])
    return MultiTaskData.several(sets, codes=codes)


def diabetes() -> MultiTaskData:
    """442 patients, 10 measurements each; one regression: `progression` of diabetes in a year."""
    bunch = _bunch(datasets.load_diabetes, scaled=False)
    return _table(bunch["data"], {"progression": bunch["target"]})


def linnerud() -> MultiTaskData:
    """20 men, 3 exercises as inputs; three regressions: `weight`, `waist` and `pulse`."""
    bunch = _bunch(datasets.load_linnerud)
    names = [name.lower() for name in bunch["target_names"]]
    measures = dict(zip(names, bunch["target"].T, strict=True))
    return _table(bunch["data"], measures)


def breast_cancer() -> MultiTaskData:
    """569 tumours, the means of 10 measurements of their cells' nuclei as inputs; two tasks.

    `diagnosis` is binary (1 = malignant); `worst_area`, a regression, is the mean area of the
    three largest nuclei. In its own units its variance is about 324,000: the losses of the two
    tasks differ by more than five orders of magnitude.
    """
    bunch = _bunch(datasets.load_breast_cancer)
    names = list(bunch["feature_names"])
    means = [number for number, name in enumerate(names) if name.startswith("mean ")]
    return _table(
        bunch["data"][:, means],
        {"worst_area": bunch["data"][:, names.index("worst area")]},
        # scikit-learn codes malignant as 0.
        {Task.binary("diagnosis"): torch.from_numpy(bunch["target"] == 0).double()},
    )


def wine(held_out: str = "color_intensity") -> MultiTaskData:
    """178 wines, 12 of their 13 chemical properties as inputs; two tasks.

    Arguments:
        held_out: the property that is predicted instead of given, a regression of that name.

    Returns:
        Multi-label data with the tasks `cultivar` (3 classes) and `held_out`.
    """
    bunch = _bunch(datasets.load_wine)
    # "od280/od315_of_diluted_wines" is no identifier.
    names = [name.replace("/", "_") for name in bunch["feature_names"]]
    _check_names("property of the wines", (held_out,), tuple(names))
    column = names.index(held_out)
    return _table(
        np.delete(bunch["data"], column, axis=1),
        {held_out: bunch["data"][:, column]},
        {Task.classification("cultivar", classes=3): torch.from_numpy(bunch["target"])},
    )


_SETS: dict[str, Callable[[], MultiTaskData]] = {
    "digits": digits,
    "digit_domains": digit_domains,
    "diabetes": diabetes,
    "linnerud": linnerud,
    "breast_cancer": breast_cancer,
    "wine": wine,
}
NAMES = tuple(_SETS)


def load(name: str) -> MultiTaskData:
    """An embedded data set by its name, as its function makes it without arguments.

    Raises:
        UsageError: for an unknown name, with the names that there are.
    """
    _check_names("embedded data set", (name,), NAMES)
    return _SETS[name]()


def _bunch(load: Callable[..., Any], **options: bool) -> Mapping[str, Any]:
    # scikit-learn annotates a union with the tuple that `return_X_y=True` would give.
    return load(**options)


def _digits() -> tuple[Images, Labels]:
    bunch = _bunch(datasets.load_digits)
    return torch.from_numpy(bunch["images"]) / 16, torch.from_numpy(bunch["target"]).long()


def _table(
    inputs: np.ndarray,
    regressions: dict[str, np.ndarray],
    labels: dict[Task, Tensor] | None = None,
) -> MultiTaskData:
    """Multi-label data of a table in its own units: the labels' tasks, then regressions."""
    targets = {task.name: target for task, target in (labels or {}).items()}
    targets |= {name: _tensor(values)[:, None] for name, values in regressions.items()}
    tasks = [*(labels or {}), *(Task.regression(name) for name in regressions)]
    return MultiTaskData.multi_label(tasks, _tensor(inputs), targets)


def _tensor(values: np.ndarray) -> Float[Tensor, "..."]:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))


def _check_names(what: str, names: tuple[str, ...], possible: tuple[str, ...]) -> None:
    for name in names:
        if name not in possible:
            raise UsageError(f"There is no {what} {name!r}: choose one of {', '.join(possible)}.")
