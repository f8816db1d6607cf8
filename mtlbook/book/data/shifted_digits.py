r"""Shifted digits: two domains of the embedded digits, with a dial for how far they lie apart.

The setting of unsupervised domain adaptation (Ganin et al., JMLR 17(59), 2016): labelled images of
a source domain, images of a target domain whose labels only a test may see, and the domain itself
as a further task. A second dial lets the proportions of the classes differ between the domains.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from mtlbook.data import embedded
from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.tasks import Task

Images = Float[Tensor, "images height width"]
Labels = Int[Tensor, " images"]

_CLASSES = 10
DIGIT = Task.classification("digit", classes=_CLASSES)
# The texture is drawn at this many points a side and interpolated: smooth, as paper is.
_TEXTURE_POINTS = 4


def thickened(images: Images, amount: float) -> Images:
    """Strokes made wider: (1 − s) x + s · (the largest of a pixel and its four neighbours)."""
    padded = F.pad(images, (1, 1, 1, 1))
    neighbours = [
        images,
        padded[:, :-2, 1:-1],
        padded[:, 2:, 1:-1],
        padded[:, 1:-1, :-2],
        padded[:, 1:-1, 2:],
    ]
    return (1 - amount) * images + amount * torch.stack(neighbours).amax(0)


def blurred(images: Images, amount: float) -> Images:
    """Rows and columns convolved with (s, 4 − 2s, s) / 4; beyond the border lies background."""
    side = amount / 4
    for axis in (1, 2):
        before, after = _moved(images, 1, axis), _moved(images, -1, axis)
        images = (1 - 2 * side) * images + side * (before + after)
    return images


def textured(images: Images, texture: Images, amount: float) -> Images:
    """Ink on textured paper: x + s/2 · (1 − x) · texture; full ink stays full ink."""
    return images + amount / 2 * (1 - images) * texture


def inverted(images: Images, chosen: Bool[Tensor, " images"]) -> Images:
    """The chosen images with ink and background exchanged: 1 − x."""
    return torch.where(chosen[:, None, None], 1 - images, images)


def shifted(images: Images, seed: int, amount: float, changes: Sequence[str]) -> Images:
    r"""Images changed by all of `changes`, one after another, each as far as `amount` says.

    Arguments:
        images: grey images between 0 (background) and 1 (ink).
        seed: of the textures and of which images are inverted.
        amount: the dial $s$ from 0 (the very same images) to 1.
        changes: some of `CHANGES`: `stroke_width` (`thickened`), `blur` (`blurred`), `texture`
            (`textured`, each image with a smooth texture of its own), and `polarity`: each image
            is `inverted` with probability $s$. Strokes are `thickened` and images `blurred` by
            $s / 2$: of 8 × 8 pixels, more would close the loops and leave nothing to read.
    """
    if not 0 <= amount <= 1:
        raise UsageError(f"The size of the shift must lie between 0 and 1, not at {amount}.")
    for change in changes:
        if change not in _CHANGES:
            raise UsageError(
                f"There is no change {change!r} of the digits: choose some of {', '.join(CHANGES)}."
            )
        images = _CHANGES[change](images, amount, seed)
    return images


def shifted_digits(
    seed: int,
    *,
    shift: float = 1.0,
    label_shift: float = 0.0,
    rows: int = 500,
    changes: Sequence[str] = ("stroke_width", "blur", "texture"),
) -> MultiTaskData:
    r"""Labelled digits of a source domain and other digits of a shifted target domain.

    The target images are `shifted` by the dial `shift`. With the dial $\delta$ = `label_shift`
    the classes have the proportions

    $$p_{\text{source}}(y) = \tfrac{1}{10}, \qquad
      p_{\text{target}}(y) = \tfrac{1 - \delta}{10}\ (y \le 4), \quad
      \tfrac{1 + \delta}{10}\ (y \ge 5),$$

    exactly, up to rounding to whole images. With both dials at 0 the two domains are two random
    draws of one distribution (the negative control).

    Arguments:
        seed: of which digits each domain shows, and of the shift.
        shift: how far the images of the target differ, from 0 to 1; it never changes which digits
            are drawn.
        label_shift: $\delta$, from 0 to 1.
        rows: images in each domain; no digit is in both.
        changes: what the shift consists of, see `shifted`. Without `polarity`, as by default, a
            person reads the target's digits with ease, and ink stays darker than paper.

    Returns:
        Source rows, then target rows, of 64 inputs; for its tasks see `two_domains`.

    Example:
        >>> data = shifted_digits(0, shift=0.5, rows=200)
        >>> [(task.name, int(data.labelled[task.name].sum())) for task in data.tasks]
        [('digit', 200), ('domain', 400), ('target_digit', 200)]
    """
    if not 0 <= label_shift <= 1:
        raise UsageError(f"label_shift must lie between 0 and 1, not at {label_shift}.")
    if rows < 1:
        raise UsageError(f"rows must be at least 1, not {rows}.")
    digits = embedded.digits("digit")
    images, labels = digits.inputs.view(-1, 8, 8), digits.targets["digit"]
    order = torch.randperm(len(labels), generator=generator(seed, "shifted digits"))
    members = [order[labels[order] == digit] for digit in range(_CLASSES)]
    source_counts = _counts(rows, label_shift=0.0)
    target_counts = _counts(rows, label_shift)
    for digit, own in enumerate(members):
        if source_counts[digit] + target_counts[digit] > len(own):
            raise UsageError(
                f"{rows} source and {rows} target rows need "
                f"{source_counts[digit] + target_counts[digit]} images of the digit {digit}, and "
                f"there are {len(own)}: ask for fewer rows or a smaller label_shift."
            )
    source = torch.cat([own[:count] for own, count in zip(members, source_counts, strict=True)])
    target = torch.cat(
        [
            own[first : first + count]
            for own, first, count in zip(members, source_counts, target_counts, strict=True)
        ]
    )
    return two_domains(
        (images[source], labels[source]),
        (shifted(images[target], seed, shift, changes), labels[target]),
    )


def two_domains(
    source: tuple[Float[Tensor, "source ..."], Int[Tensor, " source"]],
    target: tuple[Float[Tensor, "target ..."], Int[Tensor, " target"]],
    task: Task = DIGIT,
) -> MultiTaskData:
    """Inputs and labels of a source and of a target domain as the tasks of domain adaptation.

    Arguments:
        source: one input an example, an image for instance, and the labels.
        target: the same of the target domain.
        task: the classification that the labels belong to, by default `digit`.

    Returns:
        Source rows, then target rows, inputs flattened, with the tasks

        * `digit`, or whatever `task` is called, labelled on the source rows;
        * `domain` (binary, 1 = target), labelled on all rows;
        * `target_digit`, labelled on the target rows. Leave it out of training: the predictions
          for `digit` on these rows are tested against it.
    """
    if source[0].shape[1:] != target[0].shape[1:]:
        raise UsageError(
            f"The domains' inputs differ in size, {tuple(source[0].shape[1:])} and "
            f"{tuple(target[0].shape[1:])}: resize them."
        )
    inputs = torch.cat([source[0], target[0]]).flatten(1)
    labels = torch.cat([source[1], target[1]])
    of_target = torch.arange(len(inputs)) >= len(source[0])
    hidden = task.renamed(f"target_{task.name}")
    return MultiTaskData.partial(
        [task, Task.binary("domain"), hidden],
        inputs,
        {task.name: labels, "domain": of_target.to(inputs.dtype), hidden.name: labels},
        {task.name: ~of_target, "domain": torch.ones_like(of_target), hidden.name: of_target},
    )


def _counts(rows: int, label_shift: float) -> list[int]:
    """The images of each class: whole numbers that add up to `rows`, by largest remainders."""
    low, high = (rows * (1 + sign * label_shift) / _CLASSES for sign in (-1, 1))
    exact = [low] * 5 + [high] * 5
    # The tiny slack keeps 49.999… from losing an image.
    counts = [int(share + 1e-9) for share in exact]
    by_remainder = sorted(range(_CLASSES), key=lambda digit: counts[digit] - exact[digit])
    for digit in by_remainder[: rows - sum(counts)]:
        counts[digit] += 1
    return counts


def _moved(images: Images, step: int, axis: int) -> Images:
    """Images moved by one pixel along an axis, with background where nothing moves in."""
    moved = images.roll(step, axis)
    moved.select(axis, 0 if step > 0 else -1).zero_()
    return moved


def _with_texture(images: Images, amount: float, seed: int) -> Images:
    points = torch.rand(
        len(images),
        1,
        _TEXTURE_POINTS,
        _TEXTURE_POINTS,
        generator=generator(seed, "shifted digits", "texture"),
        dtype=images.dtype,
    )
    texture = F.interpolate(points, size=images.shape[1:], mode="bilinear", align_corners=True)
    return textured(images, texture[:, 0], amount)


def _with_polarity(images: Images, amount: float, seed: int) -> Images:
    source = generator(seed, "shifted digits", "polarity")
    return inverted(images, torch.rand(len(images), generator=source) < amount)


_CHANGES: dict[str, Callable[[Images, float, int], Images]] = {
    "stroke_width": lambda images, amount, _: thickened(images, amount / 2),
    "blur": lambda images, amount, _: blurred(images, amount / 2),
    "texture": _with_texture,
    "polarity": _with_polarity,
}
CHANGES = tuple(_CHANGES)
