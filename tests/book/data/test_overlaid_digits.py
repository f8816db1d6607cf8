"""Overlaid digits: the recipe by hand and against Pillow, parts against each other."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mtlbook.book.data import overlaid_digits
from mtlbook.book.data.overlaid_digits import overlay
from mtlbook.data import embedded, mnist
from mtlbook.data.images import LabelledImages
from mtlbook.data.multi_task_data import Consecutive, MultiTaskData
from mtlbook.errors import UsageError

SPLIT = Consecutive(train=300, validation=100, test=100)


def test_overlay_by_hand():
    left = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    right = torch.tensor([[[3.5, 6.0], [7.0, 8.0]]])
    # The canvas is [[1, 2, 0], [3, 4, 6], [0, 7, 8]]; of three pixels the nearest two are 0 and 2.
    assert torch.equal(
        overlay(left, right, canvas=3, offset=1), torch.tensor([[[1.0, 0.0], [0.0, 8.0]]])
    )
    # Without an offset and a larger canvas it is the pixelwise maximum.
    assert torch.equal(
        overlay(left, right, canvas=2, offset=0), torch.tensor([[[3.5, 6.0], [7.0, 8.0]]])
    )


@pytest.mark.parametrize(("size", "canvas", "offset"), [(28, 36, 6), (8, 10, 2), (5, 9, 1)])
def test_overlay_against_a_canvas_resized_by_pillow(size: int, canvas: int, offset: int):
    left, right = np.random.default_rng(0).random((2, size, size))
    whole = np.zeros((canvas, canvas))
    whole[:size, :size] = left
    corner = (slice(offset, offset + size), slice(offset, offset + size))
    whole[corner] = np.maximum(whole[corner], right)
    # Pillow's floating-point mode has 32 bits.
    resized = Image.fromarray(whole.astype(np.float32)).resize(
        (size, size), Image.Resampling.NEAREST
    )
    ours = overlay(
        torch.from_numpy(left)[None], torch.from_numpy(right)[None], canvas=canvas, offset=offset
    )
    np.testing.assert_array_equal(ours[0].float().numpy(), np.asarray(resized))


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="8 pixels moved by 3 does not fit on a canvas of 10"):
        overlay(torch.zeros(1, 8, 8), torch.zeros(1, 8, 8), canvas=10, offset=3)
    with pytest.raises(UsageError, match="square, not 4 × 8 pixels"):
        overlay(torch.zeros(1, 4, 8), torch.zeros(1, 4, 8), canvas=10, offset=0)


def parts(data: MultiTaskData, split: Consecutive) -> list[tuple[int, int]]:
    """The first row of each part and the row behind its last."""
    ends = np.cumsum([split.train, split.validation, split.test]).tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))


def pairs_shown(monkeypatch: pytest.MonkeyPatch, seed: int, split: Consecutive):
    """The data, and the digits on the left and on the right of each image, by their numbers."""
    shown: list[tuple[Tensor, Tensor]] = []

    def recorded(left: Tensor, right: Tensor, **options: int) -> Tensor:
        shown.append((left, right))
        return overlay(left, right, **options)

    monkeypatch.setattr(overlaid_digits, "overlay", recorded)
    data = overlaid_digits.overlaid_digits(seed, split)
    number = {
        tuple(image): row for row, image in enumerate(embedded.digits("digit").inputs.tolist())
    }
    sides = [
        [[number[tuple(image)] for image in images.flatten(1).tolist()] for images in part]
        for part in shown
    ]
    return data, sides


def test_no_digit_is_in_two_parts_and_labels_are_its_own(monkeypatch: pytest.MonkeyPatch):
    data, sides = pairs_shown(monkeypatch, 3, SPLIT)
    members = [set(left) | set(right) for left, right in sides]
    assert not members[0] & members[1]
    assert not members[0] & members[2]
    assert not members[1] & members[2]
    digit = embedded.digits("digit").targets["digit"]
    for side, name in enumerate(("left", "right")):
        rows = [row for part in sides for row in part[side]]
        assert torch.equal(data.targets[name], digit[rows])
    assert all(one != other for part in sides for one, other in zip(part[0], part[1], strict=True))


def test_both_sides_show_most_digits_of_their_part(monkeypatch: pytest.MonkeyPatch):
    _, sides = pairs_shown(monkeypatch, 0, Consecutive(train=5000, validation=50, test=50))
    # 1,761 digits fall to the training part; of 5,000 draws with replacement 94 % are hit.
    for side in sides[0]:
        assert len(set(side)) / 1761 == pytest.approx(1 - np.exp(-5000 / 1761), abs=0.02)
    # The sides are drawn independently of each other.
    digit = embedded.digits("digit").targets["digit"]
    labels = torch.stack([digit[side] for side in sides[0]])
    assert abs(float(torch.corrcoef(labels.double())[0, 1])) < 0.06


def test_the_upper_left_pixel_is_the_left_digits_own(monkeypatch: pytest.MonkeyPatch):
    data, sides = pairs_shown(monkeypatch, 1, SPLIT)
    images = embedded.digits("digit").inputs.view(-1, 8, 8)
    left = [row for part in sides for row in part[0]]
    right = [row for part in sides for row in part[1]]
    # Canvas pixels 0 and 1 belong to the left digit alone, 8 and 9 to the right one.
    assert torch.equal(data.inputs[:, 0, :2, :2], images[left][:, :2, :2])
    assert torch.equal(data.inputs[:, 0, 7, 7], images[right][:, 7, 7])


def test_rows_are_float64_images_of_one_channel():
    data = overlaid_digits.overlaid_digits(0, SPLIT)
    assert data.inputs.shape == (500, 1, 8, 8)
    assert data.inputs.dtype == torch.float64
    assert 0 <= float(data.inputs.min()) < float(data.inputs.max()) == 1


def test_seeds_repeat_and_differ():
    one, again, other = (overlaid_digits.overlaid_digits(seed, SPLIT) for seed in (1, 1, 2))
    assert torch.equal(one.inputs, again.inputs)
    assert torch.equal(one.targets["right"], again.targets["right"])
    assert not torch.equal(one.inputs, other.inputs)


def test_a_split_without_images_is_refused():
    with pytest.raises(UsageError, match="ask for some"):
        overlaid_digits.overlaid_digits(0, Consecutive(train=0, validation=0, test=0))


def test_mnist_keeps_its_test_digits_apart(monkeypatch: pytest.MonkeyPatch):
    """Every digit is an image of one grey value, which tells where it came from."""

    def flat(values: range) -> Tensor:
        return (torch.tensor(values) / 100)[:, None, None].expand(-1, 28, 28)

    digits = LabelledImages(
        flat(range(1, 31)), torch.arange(30) % 10, flat(range(51, 61)), torch.arange(10)
    )
    monkeypatch.setattr(mnist, "load", lambda: digits)
    split = Consecutive(train=200, validation=100, test=50)
    data = overlaid_digits.overlaid_mnist(0, split)
    assert data.inputs.shape == (350, 1, 28, 28)
    # Pixel 25 lies at 32 of the canvas: right of the left digit, within the right one.
    found = [
        set((data.inputs[start:end, 0, [0, 25], [0, 25]] * 100).round().int().flatten().tolist())
        for start, end in parts(data, split)
    ]
    assert found[0] | found[1] == set(range(1, 31))
    assert not found[0] & found[1]
    assert len(found[0]) == 20
    assert found[2] == set(range(51, 61))
    left = (data.inputs[:, 0, 0, 0] * 100).round().int() - 1
    assert torch.equal(data.targets["left"], torch.where(left >= 50, left - 50, left % 10).long())


def test_mnist_from_the_cache(downloaded: Callable[[str], None]):
    downloaded("mnist")
    data = overlaid_digits.overlaid_mnist(0, SPLIT)
    assert data.inputs.shape == (500, 1, 28, 28)
    # Two digits cover more than the one of MNIST (0.1307), on a canvas that is larger.
    assert 0.1 < float(data.inputs.mean()) < 0.2
