"""Embedded data against scikit-learn's own tables."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn import datasets

from mtlbook.data import embedded
from mtlbook.errors import UsageError
from mtlbook.tasks import Task

LOOPS = {0, 6, 8, 9}


@pytest.fixture(scope="module")
def bunch():
    return datasets.load_digits()


def test_digits_are_pixels_between_0_and_1_in_float64(bunch):
    data = embedded.digits()
    assert data.inputs.dtype == torch.float64
    assert np.array_equal(data.inputs.numpy() * 16, bunch.data)
    assert [task.name for task in data.tasks] == ["digit", "parity", "loop", "above_four"]
    assert all(bool(marks.all()) for marks in data.labelled.values())


def test_every_digit_task_is_a_function_of_the_digit(bunch):
    data = embedded.digits(*embedded.DIGIT_TASKS)
    label = bunch.target.tolist()
    expected = {
        "digit": label,
        "parity": [[digit % 2] for digit in label],
        "loop": [[digit in LOOPS] for digit in label],
        "above_four": [[digit > 4] for digit in label],
        **{f"is_{one}": [[digit == one] for digit in label] for one in range(10)},
    }
    assert set(expected) == set(embedded.DIGIT_TASKS)
    for name, targets in expected.items():
        assert np.array_equal(data.targets[name].numpy(), np.array(targets))


def test_digits_keep_the_order_asked_for():
    data = embedded.digits("loop", "digit")
    assert data.tasks == (Task.binary("loop"), Task.classification("digit", classes=10))


# What undoes each domain's way of showing a digit.
INVERSE = {
    "upright": lambda images: images,
    "inverted": lambda images: 1 - images,
    "rotated_90": lambda images: np.rot90(images, -1, (1, 2)),
    "rotated_180": lambda images: np.rot90(images, 2, (1, 2)),
    "rotated_270": lambda images: np.rot90(images, 1, (1, 2)),
    "mirrored": lambda images: images[:, :, ::-1],
    "transposed": lambda images: np.swapaxes(images, 1, 2),
}


def test_domains_show_disjoint_digits_with_their_labels(bunch):
    originals = {image.tobytes(): place for place, image in enumerate(bunch.images)}
    assert len(originals) == 1797
    data = embedded.digit_domains(*INVERSE)
    seen = []
    for domain, inverse in INVERSE.items():
        rows = data.labelled[domain]
        shown = inverse(data.inputs[rows].numpy().reshape(-1, 8, 8)) * 16
        places = [originals[np.ascontiguousarray(image).tobytes()] for image in shown]
        assert np.array_equal(data.targets[domain][rows].numpy(), bunch.target[places])
        seen += places
    assert len(seen) == len(set(seen)) == 7 * (1797 // 7)


def test_the_permuted_domain_moves_every_image_s_pixels_alike(bunch):
    permuted = embedded.digit_domains("permuted")
    upright = embedded.digit_domains("upright")
    # Columns of the one are columns of the other in another order, the same for each row.
    moved = sorted(map(tuple, permuted.inputs.T.tolist()))
    assert moved == sorted(map(tuple, upright.inputs.T.tolist()))
    assert not torch.equal(permuted.inputs, upright.inputs)
    assert torch.equal(permuted.targets["permuted"], upright.targets["upright"])


def test_a_further_domain_leaves_the_earlier_ones_as_they_are():
    two = embedded.digit_domains("upright", "inverted", rows=200)
    three = embedded.digit_domains("upright", "inverted", "mirrored", rows=200)
    assert torch.equal(two.inputs, three.inputs[:400])
    assert torch.equal(two.targets["inverted"], three.targets["inverted"][:400])


def test_domains_are_drawn_anew_for_each_seed():
    one, other = embedded.digit_domains(seed=1), embedded.digit_domains(seed=2)
    assert torch.equal(one.inputs, embedded.digit_domains(seed=1).inputs)
    assert not torch.equal(one.inputs, other.inputs)


def test_domains_carry_codes_where_asked():
    data = embedded.digit_domains("upright", "inverted", rows=3, codes=True)
    assert data.inputs.shape == (6, 66)
    assert data.inputs[:, 64:].tolist() == [[1, 0]] * 3 + [[0, 1]] * 3


@pytest.mark.parametrize("rows", [0, -1, 900])
def test_impossible_sizes_of_domains_are_refused(rows: int):
    with pytest.raises(UsageError, match="ask for 1 to 898 rows"):
        embedded.digit_domains("upright", "inverted", rows=rows)


@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        ("diabetes", {"progression": "target"}),
        ("linnerud", {"weight": 0, "waist": 1, "pulse": 2}),
    ],
)
def test_tables_are_standardised_as_scikit_learn_does(name: str, tasks: dict):
    table: Any = (
        datasets.load_diabetes(scaled=False) if name == "diabetes" else datasets.load_linnerud()
    )
    data = getattr(embedded, name)()
    targets = table.target.reshape(len(table.target), -1)
    assert [task.name for task in data.tasks] == list(tasks)
    assert np.array_equal(data.inputs.numpy(), table.data)
    for column, task in enumerate(tasks):
        assert np.array_equal(data.targets[task].numpy()[:, 0], targets[:, column])


def test_breast_cancer_has_two_tasks_of_very_different_scale():
    table: Any = datasets.load_breast_cancer()
    data = embedded.breast_cancer()
    assert np.array_equal(data.inputs.numpy(), table.data[:, :10])
    # The published table has 212 malignant and 357 benign tumours.
    assert int(data.targets["diagnosis"].sum()) == 212
    malignant = data.targets["diagnosis"][:, 0] == 1
    area = data.targets["worst_area"][:, 0]
    assert area[malignant].mean() > 2 * area[~malignant].mean()
    assert np.array_equal(area.numpy(), table.data[:, 23])
    assert area.var() > 3e5


def test_wine_does_not_show_the_property_that_it_holds_out():
    table: Any = datasets.load_wine()
    data = embedded.wine("od280_od315_of_diluted_wines")
    column = table.feature_names.index("od280/od315_of_diluted_wines")
    rest = np.delete(table.data, column, axis=1)
    assert np.array_equal(data.inputs.numpy(), rest)
    held_out = data.targets["od280_od315_of_diluted_wines"].numpy()[:, 0]
    assert np.array_equal(held_out, table.data[:, column])
    assert data.targets["cultivar"].bincount().tolist() == [59, 71, 48]


def test_every_set_loads_by_its_name():
    for name in embedded.NAMES:
        data = embedded.load(name)
        assert data.inputs.dtype == torch.float64
        assert torch.equal(data.inputs, getattr(embedded, name)().inputs)


@pytest.mark.parametrize(
    ("call", "unknown", "possible"),
    [
        (lambda: embedded.load("iris"), "'iris'", "diabetes"),
        (lambda: embedded.digits("digit", "slant"), "'slant'", "parity"),
        (lambda: embedded.digit_domains("blurred"), "'blurred'", "mirrored"),
        (lambda: embedded.wine("price"), "'price'", "alcohol"),
    ],
)
def test_unknown_names_are_refused_with_the_possible_ones(call, unknown: str, possible: str):
    with pytest.raises(UsageError, match=f"{unknown}.*choose one of .*{possible}"):
        call()
