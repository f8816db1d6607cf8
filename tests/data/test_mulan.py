"""The ARFF tables on a small file written here, and against the published counts."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mtlbook.data import mulan
from mtlbook.errors import UsageError

TABLE = """% A comment
@relation small

@attribute 'a width' numeric
@ATTRIBUTE colour {red, green,blue}
@attribute 25400 REAL
@attribute c-class numeric
@data
1.0, red, 10, 1
% another comment
?, blue, 20, ?
3.0, ?, 60, 5
"""
# What the inputs are before scaling: the width with its mean for the missing one, and the colours.
INPUTS = torch.tensor(
    [[1.0, 1, 0, 0], [2.0, 0, 0, 1], [3.0, 0, 0, 0]],
    dtype=torch.float64,
)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    file = tmp_path / "small.arff"
    file.write_text(TABLE)
    return file


def test_missing_and_nominal_inputs_become_numbers(small: Path):
    data = mulan.read_arff(small, targets=2)
    spread = INPUTS.std(0, correction=0)
    expected = (INPUTS - INPUTS.mean(0)) / torch.where(spread == 0, 1, spread)
    torch.testing.assert_close(data.inputs, expected)


def test_the_last_columns_are_the_targets_and_missing_ones_are_not_labelled(small: Path):
    data = mulan.read_arff(small, targets=2, standardise_targets=False)
    assert [task.name for task in data.tasks] == ["target_25400", "c_class"]
    assert data.targets["target_25400"].tolist() == [[10], [20], [60]]
    assert data.targets["c_class"].tolist() == [[1], [0], [5]]
    assert data.labelled["target_25400"].tolist() == [True, True, True]
    assert data.labelled["c_class"].tolist() == [True, False, True]


def test_targets_are_standardised_over_the_known_ones(small: Path):
    data = mulan.read_arff(small, targets=2)
    assert data.targets["c_class"].tolist() == [[-1], [0], [1]]
    known = data.targets["target_25400"]
    assert float(known.mean()) == pytest.approx(0, abs=1e-12)
    assert float(known.std(correction=0)) == pytest.approx(1)


def test_an_unknown_set_is_refused_with_the_possible_ones():
    with pytest.raises(UsageError, match=r"no Mulan set 'enron'.*andro, .*wq"):
        mulan.load("enron")


# Rows, attributes before one-hot coding, and targets, as published.
PUBLISHED = {
    "andro": (49, 30, 6),
    "atp1d": (337, 411, 6),
    "atp7d": (296, 411, 6),
    "edm": (154, 16, 2),
    "enb": (768, 8, 2),
    "jura": (359, 15, 3),
    "oes10": (403, 298, 16),
    "oes97": (334, 263, 16),
    "osales": (639, 401, 12),
    "scpf": (1137, 23, 3),
    "sf1": (323, 10, 3),
    "sf2": (1066, 10, 3),
    "slump": (103, 7, 3),
    "wq": (1060, 16, 14),
}
# The solar flares' ten attributes have 7, 6, 4, 2, 3, 3, 2, 2, 2 and 2 values.
CODED = {"sf1": 33, "sf2": 33}


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_sets_are_as_published(name: str, downloaded: Callable[[str], None]):
    downloaded("mulan_mtr")
    data = mulan.load(name)
    rows, inputs, targets = PUBLISHED[name]
    assert data.inputs.shape == (rows, CODED.get(name, inputs))
    assert len(data.tasks) == targets == mulan.TARGETS[name]
    assert data.inputs.dtype == torch.float64
    for task in data.tasks:
        known = data.targets[task.name][data.labelled[task.name]]
        assert len(known) == rows
        assert float(known.mean()) == pytest.approx(0, abs=1e-9)


def test_numbers_are_those_of_the_file(downloaded: Callable[[str], None]):
    downloaded("mulan_mtr")
    data = mulan.load("enb", standardise_targets=False)
    # The first row of the file is 0.98,514.50,294.00,110.25,7.00,2,0.00,0,15.55,21.33.
    assert data.targets["Y1"][0, 0] == 15.55
    assert data.targets["Y2"][0, 0] == 21.33
    orientation = data.inputs[:, 5].numpy()
    # Four orientations, 2 to 5, equally often: standardised they are ±1/√5 and ±3/√5.
    np.testing.assert_allclose(np.unique(orientation.round(9)), np.array([-3, -1, 1, 3]) / 5**0.5)
