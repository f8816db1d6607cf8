r"""Overlaid digits: two digits in one image, one task for each, by the recipe of MultiMNIST.

The data set is by Sabour, Frosst and Hinton (*Dynamic routing between capsules*, 2017); the recipe
is the multi-task one by Sener and Koltun (*Multi-task learning as multi-objective optimization*,
2018): one digit in the upper left of a canvas, another in its lower right, the larger of the two
pixels where they meet, and the canvas resized to the size of a digit by the nearest pixel. The
tasks are the digit on the left and the digit on the right.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from mtlbook.data import embedded, mnist
from mtlbook.data.multi_task_data import PARTS, Consecutive, MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.tasks import Task

Images = Float[Tensor, "images height width"]

_CLASSES = 10
# MultiMNIST moves the right digit by 6 of 28 pixels, on a canvas of 36; scikit-learn's digits
# have 8 pixels.
_MNIST_OFFSET, _MNIST_CANVAS = 6, 36
_DIGITS_OFFSET, _DIGITS_CANVAS = 2, 10


def overlay(left: Images, right: Images, *, canvas: int, offset: int) -> Images:
    r"""Each left image and its right image in one, of the same size as either.

    On a square canvas that is 0 elsewhere, the left image begins at the pixel (0, 0), the right one
    at (offset, offset); a pixel is the larger of the two. Pixel $i$ of the result along either axis
    is pixel $\lfloor (i + 1/2) \cdot \text{canvas} / \text{size} \rfloor$ of the canvas.
    """
    size = left.shape[1]
    if left.shape[2] != size:
        raise UsageError(f"Overlaid images must be square, not {size} × {left.shape[2]} pixels.")
    if not 0 <= offset <= canvas - size:
        raise UsageError(
            f"An image of {size} pixels moved by {offset} does not fit on a canvas of {canvas}: "
            "make the canvas larger."
        )
    rest = canvas - size
    upper = F.pad(left, (0, rest, 0, rest))
    lower = F.pad(right, (offset, rest - offset, offset, rest - offset))
    both = torch.maximum(upper, lower)
    return F.interpolate(both[:, None], size=size, mode="nearest-exact")[:, 0]


def overlaid_digits(seed: int, split: Consecutive) -> MultiTaskData:
    """Overlaid digits of 8 × 8 pixels from the 1,797 embedded ones.

    The digits are first divided among the parts, in proportion to the parts' sizes, so that no
    digit of a test image occurs in a training image. Within a part a digit can occur in several
    images, together with different others.

    Arguments:
        seed: of the division and of the pairs.
        split: the overlaid images in each part; give the same split to `fit`.

    Returns:
        Rows in the split's order, inputs of one channel, every row labelled for both tasks, `left`
        and `right` (10 classes each).

    Example:
        >>> data = overlaid_digits(0, Consecutive(train=60, validation=20, test=20))
        >>> tuple(data.inputs.shape), [task.name for task in data.tasks]
        ((100, 1, 8, 8), ['left', 'right'])
    """
    digits = embedded.digits("digit")
    images, labels = digits.inputs.view(-1, 8, 8), digits.targets["digit"]
    order = _order(len(images), seed)
    first, second, third = order.split(
        _division(len(images), [split.train, split.validation, split.test])
    )
    return _assembled(
        [(images[part], labels[part]) for part in (first, second, third)],
        seed,
        split,
        canvas=_DIGITS_CANVAS,
        offset=_DIGITS_OFFSET,
    )


def overlaid_mnist(seed: int, split: Consecutive) -> MultiTaskData:
    """Overlaid digits of 28 × 28 pixels from MNIST, which is downloaded at the first call.

    As `overlaid_digits`, with test images from MNIST's test part, training and validation images
    from disjoint digits of its training part. Inputs are float32, since they are many.
    """
    digits = mnist.load()
    order = _order(len(digits.train_images), seed)
    first, second = order.split(_division(len(order), [split.train, split.validation]))
    train, validation = (
        (digits.train_images[part], digits.train_labels[part]) for part in (first, second)
    )
    return _assembled(
        [train, validation, (digits.test_images, digits.test_labels)],
        seed,
        split,
        canvas=_MNIST_CANVAS,
        offset=_MNIST_OFFSET,
    )


def _order(digits: int, seed: int) -> Int[Tensor, " digits"]:
    return torch.randperm(digits, generator=generator(seed, "overlaid digits", "division"))


def _division(digits: int, sizes: list[int]) -> list[int]:
    """How many of the digits each part gets, in proportion to its size; the last gets the rest."""
    if min(sizes) < 0 or not sum(sizes):
        raise UsageError(f"The parts have {sizes} overlaid images: ask for some, and none below 0.")
    shares = [digits * size // sum(sizes) for size in sizes[:-1]]
    return [*shares, digits - sum(shares)]


def _assembled(
    parts: list[tuple[Float[Tensor, "_ height width"], Int[Tensor, " _"]]],
    seed: int,
    split: Consecutive,
    *,
    canvas: int,
    offset: int,
) -> MultiTaskData:
    inputs, targets = [], {"left": [], "right": []}
    for name, (images, labels) in zip(PARTS, parts, strict=True):
        left, right = _pairs(len(images), getattr(split, name), seed, name)
        inputs.append(overlay(images[left], images[right], canvas=canvas, offset=offset))
        targets["left"].append(labels[left])
        targets["right"].append(labels[right])
    return MultiTaskData.multi_label(
        [Task.classification(name, classes=_CLASSES) for name in targets],
        torch.cat(inputs)[:, None],
        {name: torch.cat(labels) for name, labels in targets.items()},
    )


def _pairs(
    digits: int, pairs: int, seed: int, part: str
) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"]]:
    """Random pairs of two different digits of a part, drawn with replacement."""
    if pairs and digits < 2:
        raise UsageError(
            f"The {part} part has {digits} digits for {pairs} pairs: make the part larger."
        )
    source = generator(seed, "overlaid digits", part)
    draws = torch.rand(pairs, 2, generator=source, dtype=torch.float64)
    left = (draws[:, 0] * digits).long()
    # A step of 1 to digits - 1 around the ring never ends where it began.
    right = (left + 1 + (draws[:, 1] * (digits - 1)).long()) % max(digits, 1)
    return left, right
