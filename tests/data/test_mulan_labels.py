"""The multi-label tables on small files written here."""

from pathlib import Path

import pytest
import torch

from mtlbook.data import mulan_labels
from mtlbook.errors import UsageError

HEAD = """@relation small
@attribute first numeric
@attribute second numeric
@attribute Class1 {0,1}
@attribute Class2 {0,1}
@data
"""


def test_the_last_columns_are_labels_and_files_follow_each_other(tmp_path: Path):
    files = [tmp_path / "train.arff", tmp_path / "test.arff"]
    files[0].write_text(HEAD + "1.0,2.0,0,1\n3.0,4.0,1,1\n")
    files[1].write_text(HEAD + "5.0,6.0,1,0\n")
    data = mulan_labels.read(files, labels=2)
    assert [task.name for task in data.tasks] == ["class1", "class2"]
    assert isinstance(data.inputs, torch.Tensor)
    assert data.inputs.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert data.targets["class1"].flatten().tolist() == [0, 1, 1]
    assert data.targets["class2"].flatten().tolist() == [1, 1, 0]


def test_an_unknown_set_is_refused():
    with pytest.raises(UsageError, match="no multi-label set 'scenes': choose yeast"):
        mulan_labels.load("scenes")
