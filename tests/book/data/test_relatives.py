import pytest
import torch

from mtlbook.book.data.relatives import relatives


@pytest.mark.parametrize(
    ("dataset", "names"),
    [
        ("related_tasks", ["target", "related_elsewhere", "related_here"]),
        ("digits", ["target", "related_elsewhere", "related_here"]),
        ("digit_domains", ["target", "related_elsewhere"]),
    ],
)
def test_no_row_has_a_label_of_both_halves(dataset: str, names: list[str]):
    data = relatives(dataset, 1.0, 3)
    assert [task.name for task in data.tasks] == names
    target = data.labelled["target"]
    assert torch.equal(data.labelled["related_elsewhere"], ~target)
    assert 0 <= len(target) - 2 * int(target.sum()) <= 1
    if "related_here" in names:
        assert torch.equal(data.labelled["related_here"], target)
        elsewhere, here = (data.targets[f"related_{where}"] for where in ("elsewhere", "here"))
        assert elsewhere.shape == here.shape


def test_related_labels_are_those_of_their_own_rows():
    data = relatives("digits", 1.0, 3)
    digit, attributes = data.targets["target"].flatten(), data.targets["related_here"]
    rows = data.labelled["target"]
    assert torch.equal(attributes[rows, 0], (digit[rows] % 2).to(attributes))
    assert torch.equal(attributes[rows, 2], (digit[rows] > 4).to(attributes))


def test_seeds_divide_the_digits_differently():
    first, second = (relatives("digits", 1.0, seed) for seed in (0, 1))
    assert not torch.equal(first.inputs, second.inputs)
    assert torch.equal(first.inputs.sum(0), second.inputs.sum(0))
