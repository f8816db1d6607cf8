r"""A small faint digit beside a large one: the world of section 7.4 made of handwritten digits.

On the left a large 6 or 7, which agrees with a binary label with some probability; at the upper
right a digit from 0 to 5 of a quarter of its area, whose parity agrees with the label nearly
always; at the lower right another small digit that has nothing to do with it. Both are faint.
"""

from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from mtlbook.book.data.worlds.faint_cue import cued_bits
from mtlbook.data import embedded, mnist
from mtlbook.data.multi_task_data import PARTS, Consecutive, MultiTaskData
from mtlbook.data.synthetic import check_shares
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.tasks import Task

Images = Float[Tensor, "images height width"]

PATTERNS = (6, 7)  # the large digits, by the label that they agree with
DIGITS = 6  # kinds of small ones, 0 to 5
TASKS = (
    Task.binary("label", metric="error rate"),
    Task.classification("cue", classes=DIGITS, metric="error rate"),
    Task.classification("other_cue", classes=DIGITS, metric="error rate"),
    Task.binary("pattern", metric="error rate"),
)
# Sides of the large digit; small ones have half.
DIGITS_SIDE, MNIST_SIDE = 12, 14


def small_digit(
    seed: int,
    split: Consecutive,
    *,
    cue: float = 0.3,
    pattern: float = 0.85,
    reliability: float = 0.98,
    decoupled: bool = False,
) -> MultiTaskData:
    """The 1,797 embedded digits so composed: a large one of 12 × 12 pixels, small ones of 6 × 6.

    The digits are first divided among the parts, in proportion to the parts' sizes, so that no
    digit of a test image occurs in a training image.

    Arguments:
        seed: of the division and of the images.
        split: the images in each part; give the same split to `fit`.
        cue: how dark the small digits are, the large one being 1.
        pattern: how often the large digit agrees with the label: 7 where it is 1, 6 where it is 0.
        reliability: how often the parity of the upper small digit does.
        decoupled: the same images, but that the large digit is drawn anew without regard to the
            label.

    Returns:
        Rows in the split's order, 216 inputs, with the tasks `label` (binary), `cue` and
        `other_cue` (the two small digits) and `pattern` (whether the large one is a 7).

    Example:
        >>> data = small_digit(0, Consecutive(train=60, validation=20, test=20))
        >>> tuple(data.inputs.shape), [task.name for task in data.tasks]
        ((100, 216), ['label', 'cue', 'other_cue', 'pattern'])
    """
    digits = embedded.digits("digit")
    images, labels = digits.inputs.view(-1, 8, 8), digits.targets["digit"]
    order = torch.randperm(len(images), generator=generator(seed, "small digit", "division"))
    sizes = [split.train, split.validation, split.test]
    ends = [round(len(images) * sum(sizes[:n]) / sum(sizes)) for n in range(4)]
    pools = [order[first:last] for first, last in pairwise(ends)]
    return _composed(
        [(images[pool], labels[pool]) for pool in pools],
        seed,
        split,
        side=DIGITS_SIDE,
        cue=cue,
        pattern=pattern,
        reliability=reliability,
        decoupled=decoupled,
    )


def small_digit_mnist(
    seed: int,
    split: Consecutive,
    *,
    cue: float = 0.3,
    pattern: float = 0.85,
    reliability: float = 0.98,
    decoupled: bool = False,
) -> MultiTaskData:
    """The same of MNIST, which is downloaded at the first call: 14 × 14 pixels and 7 × 7.

    Test images are made of MNIST's test part, the others of disjoint parts of its training images.
    Arguments and tasks are those of `small_digit`; there are 294 inputs.
    """
    every = mnist.load()
    order = torch.randperm(
        len(every.train_labels), generator=generator(seed, "small digit", "division")
    )
    cut = len(order) * split.train // (split.train + split.validation)
    parts = [
        (every.train_images[pool].double(), every.train_labels[pool])
        for pool in (order[:cut], order[cut:])
    ]
    parts.append((every.test_images.double(), every.test_labels))
    return _composed(
        parts,
        seed,
        split,
        side=MNIST_SIDE,
        cue=cue,
        pattern=pattern,
        reliability=reliability,
        decoupled=decoupled,
    )


def regions(side: int) -> dict[str, Bool[Tensor, " inputs"]]:
    """The inputs of the large digit and of each small one, by the task that asks for it.

    Arguments:
        side: of the large digit: `DIGITS_SIDE` or `MNIST_SIDE`.
    """
    half = side // 2
    corners = {"pattern": (0, 0, side), "cue": (0, side, half), "other_cue": (half, side, half)}
    found = {}
    for name, (top, left, size) in corners.items():
        area = torch.zeros(side, side + half, dtype=torch.bool)
        area[top : top + size, left : left + size] = True
        found[name] = area.flatten()
    return found


def _composed(
    parts: list[tuple[Tensor, Tensor]],
    seed: int,
    split: Consecutive,
    *,
    side: int,
    cue: float,
    pattern: float,
    reliability: float,
    decoupled: bool,
) -> MultiTaskData:
    """The images of each part, made of its own digits."""
    check_shares(pattern=pattern, reliability=reliability)
    if not 0 <= cue < float("inf"):
        raise UsageError(f"cue is an amplitude of at least 0, not {cue}.")
    half = side // 2
    made: list[tuple[Tensor, ...]] = []
    for part, (images, labels) in zip(PARTS, parts, strict=True):
        rows = int(getattr(split, part))

        def uniform(purpose: str, part: str = part, rows: int = rows) -> Float[Tensor, " rows"]:
            source = generator(seed, "small digit", part, purpose)
            return torch.rand(rows, generator=source, dtype=torch.float64)

        label, bit, told = cued_bits(uniform, pattern, reliability, decoupled=decoupled)
        small = labels < DIGITS
        groups = {
            "pattern": [labels == digit for digit in PATTERNS],
            "cue": [small & (labels % 2 == parity) for parity in (0, 1)],
            "other_cue": [small, small],
        }
        bits = {"pattern": bit, "cue": told, "other_cue": torch.zeros_like(label)}
        chosen = {
            name: _one_of_each(own, bits[name], uniform(f"which {name}"), part)
            for name, own in groups.items()
        }
        canvas = torch.zeros(rows, side, side + half, dtype=torch.float64)
        canvas[:, :, :side] = _resized(images[chosen["pattern"]], side)
        canvas[:, :half, side:] = cue * _resized(images[chosen["cue"]], half)
        canvas[:, half:, side:] = cue * _resized(images[chosen["other_cue"]], half)
        made.append(
            (canvas.flatten(1), label, labels[chosen["cue"]], labels[chosen["other_cue"]], bit)
        )
    inputs, label, own, other, bit = (torch.cat(column) for column in zip(*made, strict=True))
    targets = {"label": label.double(), "cue": own, "other_cue": other, "pattern": bit.double()}
    return MultiTaskData.multi_label(TASKS, inputs, targets)


def _one_of_each(
    groups: list[Bool[Tensor, " images"]],
    bit: Int[Tensor, " rows"],
    uniform: Float[Tensor, " rows"],
    part: str,
) -> Int[Tensor, " rows"]:
    """For each row an image of the group of its bit, every image with equal odds."""
    found = torch.zeros_like(bit)
    for number, marks in enumerate(groups):
        members = torch.nonzero(marks)[:, 0]
        if not len(members):
            raise UsageError(
                f"Among the digits of the {part} part some kind is missing: ask for more images in "
                "that part, in proportion to the others."
            )
        rows = bit == number
        found[rows] = members[(uniform[rows] * len(members)).long()]
    return found


def _resized(images: Images, side: int) -> Float[Tensor, "images {side} {side}"]:
    """Images of another size, smoothed before they are made smaller."""
    return F.interpolate(images[:, None], size=(side, side), mode="bilinear", antialias=True)[:, 0]
