"""The ARFF tables on a small file written here, and against the published counts."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mtlbook.data import mulan
from mtlbook.data.multi_task_data import Holdout
from mtlbook.data.splits import GroupHoldout, equal_inputs
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
NAN = torch.nan
INPUTS = torch.tensor([[1, 1, 0, 0], [NAN, 0, 0, 1], [3, 0, 0, 0]], dtype=torch.float64)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    file = tmp_path / "small.arff"
    file.write_text(TABLE)
    return file


def test_nominal_inputs_become_numbers_and_missing_ones_stay_unknown(small: Path):
    data = mulan.read_arff(small, targets=2)
    torch.testing.assert_close(data.inputs, INPUTS, rtol=0, atol=0, equal_nan=True)


def test_the_last_columns_are_the_targets_and_missing_ones_are_not_labelled(small: Path):
    data = mulan.read_arff(small, targets=2).filled()
    assert [task.name for task in data.tasks] == ["target_25400", "c_class"]
    assert data.targets["target_25400"].tolist() == [[10], [20], [60]]
    assert data.targets["c_class"].tolist() == [[1], [0], [5]]
    assert data.labelled["target_25400"].tolist() == [True, True, True]
    assert data.labelled["c_class"].tolist() == [True, False, True]


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
        assert bool(data.labelled[task.name].all())


@pytest.mark.parametrize(("name", "share"), [("sf1", 0.595), ("sf2", 0.853)])
def test_solar_flares_repeat_their_inputs_unless_split_by_them(name, share, downloaded):
    downloaded("mulan_mtr")
    data = mulan.load(name).filled()

    def seen(split: Holdout, seed: int) -> float:
        drawn = split.draw(data, seed)
        known = set(map(tuple, data.inputs[drawn.train].tolist()))
        return float(np.mean([tuple(row) in known for row in data.inputs[drawn.test].tolist()]))

    assert np.mean([seen(Holdout(), seed) for seed in range(20)]) == pytest.approx(share, abs=0.005)
    by_input = GroupHoldout(groups=equal_inputs(data.inputs))
    assert {seen(by_input, seed) for seed in range(20)} == {0.0}


def test_numbers_are_those_of_the_file(downloaded: Callable[[str], None]):
    downloaded("mulan_mtr")
    data = mulan.load("enb")
    # The first row of the file is 0.98,514.50,294.00,110.25,7.00,2,0.00,0,15.55,21.33.
    assert data.targets["Y1"][0, 0] == 15.55
    assert data.targets["Y2"][0, 0] == 21.33
    assert data.inputs[0].tolist() == [0.98, 514.5, 294, 110.25, 7, 2, 0, 0]
