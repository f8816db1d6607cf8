import pytest
import torch

from mtlbook.book import exercises


def by_rows(layers, mixing):
    return layers @ (mixing.T if mixing.shape[0] == mixing.shape[1] else mixing)


def tasks_first(layers, mixing):
    return (layers @ mixing).movedim(-1, 0)


def one_component(layers, mixing):
    return layers[..., :1] @ mixing[:1]


def one_by_one(values, error):
    return max(1, int((values > error * values.square().sum().sqrt()).sum()))


def all_of_them(values, error):
    return len(values)


def always_two(values, error):
    return 2 if error else 4


@pytest.mark.parametrize(
    ("id", "answer", "hint"),
    [
        ("6.7.a", by_rows, "column t of S"),
        ("6.7.a", tasks_first, "last axis"),
        ("6.7.a", one_component, "sum over the components"),
        ("6.7.b", always_two, "root of squares, not a sum"),
        ("6.7.b", all_of_them, "the rank is 2"),
        ("6.7.b", lambda values, error: 1, "nothing may be left out"),
    ],
)
def test_a_wrong_answer_is_rejected_with_a_hint(id, answer, hint):  # noqa: A002
    found = exercises.get(id).hint(answer)
    assert found is not None
    assert hint in found, found


def test_leaving_out_by_single_values_is_told_apart():
    values = torch.tensor([4.0, 3.0, 0.4, 0.3], dtype=torch.float64)
    assert one_by_one(values, 0.07) == 3
    found = exercises.get("6.7.b").hint(one_by_one)
    assert found is not None


def test_predictions_know_their_answers():
    assert exercises.get("6.7.c").hint(0.95) is None
    assert exercises.get("6.7.d").hint("hard sharing") is None
    assert exercises.get("6.7.d").hint("factors") is not None
