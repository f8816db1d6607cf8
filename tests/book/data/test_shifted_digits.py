"""Shifted digits: each change against SciPy or by hand, the dials against what they promise."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from mtlbook.book.data.shifted_digits import (
    CHANGES,
    blurred,
    inverted,
    shifted,
    shifted_digits,
    textured,
    thickened,
    two_domains,
)
from mtlbook.data import embedded
from mtlbook.errors import UsageError

IMAGES = torch.rand(5, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("amount", [0.3, 1.0])
def test_thick_strokes_are_a_grey_dilation(amount: float):
    cross = ndimage.generate_binary_structure(2, 1)
    for image, thick in zip(IMAGES.numpy(), thickened(IMAGES, amount).numpy(), strict=True):
        dilated = ndimage.grey_dilation(image, footprint=cross, mode="constant")
        np.testing.assert_allclose(thick, (1 - amount) * image + amount * dilated, rtol=1e-12)


@pytest.mark.parametrize("amount", [0.3, 1.0])
def test_blur_is_a_separable_convolution(amount: float):
    kernel = np.array([amount, 4 - 2 * amount, amount]) / 4
    for image, smooth in zip(IMAGES.numpy(), blurred(IMAGES, amount).numpy(), strict=True):
        expected = ndimage.convolve(image, np.outer(kernel, kernel), mode="constant")
        np.testing.assert_allclose(smooth, expected, rtol=1e-12)


def test_texture_shows_on_the_background_and_not_through_the_ink():
    image = torch.tensor([[[0.0, 1.0], [0.5, 0.0]]], dtype=torch.float64)
    texture = torch.tensor([[[0.8, 0.8], [0.4, 0.0]]], dtype=torch.float64)
    expected = torch.tensor([[[0.4, 1.0], [0.6, 0.0]]], dtype=torch.float64)
    torch.testing.assert_close(textured(image, texture, 1.0), expected)


def test_only_the_chosen_images_are_inverted():
    result = inverted(IMAGES, torch.tensor([True, False, False, True, False]))
    assert torch.equal(result[[0, 3]], 1 - IMAGES[[0, 3]])
    assert torch.equal(result[[1, 2, 4]], IMAGES[[1, 2, 4]])


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_vanishes_at_0_and_grows_with_the_dial(change: str):
    images = embedded.digits("digit").inputs.view(-1, 8, 8)
    assert torch.equal(shifted(images, 3, 0.0, [change]), images)
    distance = [
        float((shifted(images, 3, amount, [change]) - images).abs().mean())
        for amount in (0.25, 0.5, 1.0)
    ]
    assert 0 < distance[0] < distance[1] < distance[2]


@pytest.mark.parametrize("amount", [0.3, 1.0])
def test_pixels_stay_between_0_and_1(amount: float):
    images = shifted(IMAGES, 0, amount, CHANGES)
    assert float(images.min()) >= 0
    assert float(images.max()) <= 1


def test_polarity_inverts_the_share_that_the_dial_says():
    black = torch.zeros(10_000, 2, 2, dtype=torch.float64)
    assert float(shifted(black, 0, 0.3, ["polarity"]).mean()) == pytest.approx(0.3, abs=0.015)
    assert bool((shifted(black, 0, 1.0, ["polarity"]) == 1).all())


def test_each_image_has_a_texture_of_its_own():
    paper = shifted(torch.zeros(3, 8, 8, dtype=torch.float64), 0, 1.0, ["texture"])
    assert len(torch.unique(paper.flatten(1), dim=0)) == 3
    # Uniform texture between 0 and 1, at half its strength.
    assert float(paper.min()) >= 0
    assert float(paper.max()) <= 0.5


@settings(max_examples=15)
@given(seed=st.integers(0, 10), rows=st.integers(1, 500), label_shift=st.floats(0, 1))
def test_source_and_target_show_disjoint_digits(seed: int, rows: int, label_shift: float):
    data = shifted_digits(seed, shift=0.0, label_shift=label_shift, rows=rows)
    known = {tuple(image) for image in embedded.digits("digit").inputs.tolist()}
    source, target = (
        {tuple(image) for image in data.inputs[data.labelled[name]].tolist()}
        for name in ("digit", "target_digit")
    )
    # All of the 1,797 images differ, so that none can hide behind another.
    assert len(known) == 1797
    assert len(source) == len(target) == rows
    assert source | target <= known
    assert not source & target


def test_labels_are_those_of_the_images():
    data = shifted_digits(4, shift=0.0)
    digits = embedded.digits("digit")
    number = {tuple(image): row for row, image in enumerate(digits.inputs.tolist())}
    rows = torch.tensor([number[tuple(image)] for image in data.inputs.tolist()])
    for name in ("digit", "target_digit"):
        own = data.labelled[name]
        assert torch.equal(data.targets[name][own], digits.targets["digit"][rows[own]])


def test_the_shift_changes_the_target_images_only():
    plain, changed = shifted_digits(1, shift=0.0), shifted_digits(1, shift=1.0)
    source = plain.labelled["digit"]
    assert torch.equal(plain.inputs[source], changed.inputs[source])
    expected = shifted(
        plain.inputs[~source].view(-1, 8, 8),
        1,
        1.0,
        ["stroke_width", "blur", "texture"],
    )
    assert torch.equal(changed.inputs[~source], expected.flatten(1))
    for name in ("digit", "domain", "target_digit"):
        assert torch.equal(plain.targets[name], changed.targets[name])


@pytest.mark.parametrize(
    ("label_shift", "low", "high"), [(0.0, 50, 50), (0.2, 40, 60), (0.7, 15, 85), (1.0, 0, 100)]
)
def test_proportions_of_the_target_follow_the_dial(label_shift: float, low: int, high: int):
    data = shifted_digits(0, label_shift=label_shift, rows=500)
    of_target = data.labelled["target_digit"]
    counts = data.targets["target_digit"][of_target].bincount(minlength=10)
    assert counts.tolist() == [low] * 5 + [high] * 5
    assert data.targets["digit"][~of_target].bincount().tolist() == [50] * 10


def domain_accuracy(seed: int, shift: float, label_shift: float = 0.0) -> float:
    """Of a linear classifier of the domain, on rows that it has not seen."""
    data = shifted_digits(seed, shift=shift, label_shift=label_shift)
    features, domains = data.inputs.numpy(), data.targets["domain"][:, 0].numpy()
    order = np.random.default_rng(seed).permutation(len(domains))
    classifier = RidgeClassifier(alpha=10)
    return float(cross_val_score(classifier, features[order], domains[order], cv=2).mean())


def test_without_shifts_the_domains_cannot_be_told_apart():
    """Chance, in both directions: a seed's accuracy has a standard error of about 1/2/√1000."""
    accuracy = np.array([domain_accuracy(seed, shift=0.0) for seed in range(20)])
    # Held-out folds of one sample are a little below chance: what one has, the other lacks.
    assert abs(accuracy.mean() - 0.5) <= 0.02
    assert (abs(accuracy - 0.5) <= 4 * 0.5 / 1000**0.5 + 0.02).all()


@pytest.mark.parametrize(("shift", "label_shift"), [(0.25, 0.0), (0.0, 0.8)])
def test_either_shift_tells_the_domains_apart(shift: float, label_shift: float):
    assert min(domain_accuracy(seed, shift, label_shift) for seed in range(3)) > 0.6


def test_the_digits_of_both_domains_stay_legible():
    """To the nearest neighbour of the own domain, at the far end of the dial."""
    data = shifted_digits(0, shift=1.0)
    for name in ("digit", "target_digit"):
        own = data.labelled[name]
        images, labels = data.inputs[own].numpy(), data.targets[name][own].numpy()
        order = np.random.default_rng(0).permutation(len(labels))
        score = cross_val_score(KNeighborsClassifier(1), images[order], labels[order]).mean()
        assert score > 0.8


def test_domain_marks_the_target_rows():
    data = shifted_digits(0, rows=7)
    assert data.targets["domain"].flatten().tolist() == [0.0] * 7 + [1.0] * 7
    assert data.labelled["digit"].tolist() == [True] * 7 + [False] * 7
    assert data.labelled["target_digit"].tolist() == [False] * 7 + [True] * 7
    assert bool(data.labelled["domain"].all())
    # The hidden labels are not in what training on `digit` could see.
    assert bool((data.targets["digit"][7:] == 0).all())
    assert data.inputs.dtype == torch.float64


def test_seeds_repeat_and_differ():
    one, again, other = (shifted_digits(seed).inputs for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_domains_of_different_size_are_refused():
    labels = torch.zeros(1, dtype=torch.long)
    with pytest.raises(UsageError, match=r"differ in size, \(4, 4\) and \(5, 5\): resize"):
        two_domains((torch.zeros(1, 4, 4), labels), (torch.zeros(1, 5, 5), labels))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shift": 1.5}, "size of the shift must lie between 0 and 1, not at 1.5"),
        ({"label_shift": -0.1}, "label_shift must lie between 0 and 1"),
        ({"rows": 0}, "rows must be at least 1"),
        ({"rows": 800, "label_shift": 1.0}, "need 240 images of the digit 5, and there are 182"),
        ({"changes": ["colour"]}, "no change 'colour' of the digits: choose some of stroke_width"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict, message: str):
    with pytest.raises(UsageError, match=message):
        shifted_digits(0, **arguments)
