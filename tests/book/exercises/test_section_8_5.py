import pytest

from mtlbook.book import exercises


def not_centred(x, y):
    return (y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm())


def not_squared(x, y):
    x, y = x - x.mean(0), y - y.mean(0)
    return (y.T @ x).norm() / ((x.T @ x).norm() * (y.T @ y).norm())


def a_sum(x, y):
    x, y = x - x.mean(0), y - y.mean(0)
    return (y.T @ x).square().sum() / ((x.T @ x).norm() + (y.T @ y).norm())


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (not_centred, "subtract each column's mean"),
        (not_squared, "is squared"),
        (a_sum, "what divides it"),
    ],
)
def test_a_wrong_answer_is_rejected_with_a_hint(answer, hint):
    found = exercises.get("8.5.a").hint(answer)
    assert found is not None
    assert hint in found, found
