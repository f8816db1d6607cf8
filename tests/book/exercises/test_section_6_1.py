import pytest
import torch

from mtlbook.book import exercises
from mtlbook.book.exercises import section_6_1 as section


def without_the_others(heads, features, outputs):
    flat = heads.flatten(0, 1)
    return flat.T @ flat / len(flat)


def a_sum(heads, features, outputs):
    return section.task_covariance(heads, features, outputs) * len(features) * len(outputs)


def not_inverted(heads, features, outputs):
    inverse = torch.linalg.inv
    return section.task_covariance(heads, inverse(features), inverse(outputs))


def of_features(heads, features, outputs):
    return features


def squared(heads, features, outputs):
    return section.task_covariance(heads, features, outputs) ** 2


def precision(tasks, l2, distance):
    return torch.linalg.inv(section.mean_regularisation(tasks, l2, distance))


def half(tasks, l2, distance):
    return section.mean_regularisation(tasks, l2, distance / 2)


def one_for_all(tasks, l2, distance):
    return torch.eye(tasks)


@pytest.mark.parametrize("id", ["6.1.a", "6.1.b"])
def test_the_reference_is_accepted(id):  # noqa: A002
    exercise = exercises.get(id)
    assert exercise.hint(exercise.reference) is None


@pytest.mark.parametrize(
    ("id", "answer", "hint"),
    [
        ("6.1.a", without_the_others, "where are the other two"),
        ("6.1.a", a_sum, "divide by D_1 D_2"),
        ("6.1.a", not_inverted, "stand inverted"),
        ("6.1.a", of_features, "a row and a column for each of the tasks"),
        ("6.1.a", squared, "inner product of two tasks"),
        ("6.1.b", precision, "its inverse"),
        ("6.1.b", half, "a factor ½"),
        ("6.1.b", one_for_all, "quadratic form"),
        ("6.1.b", lambda tasks, l2, distance: torch.eye(3), "2 rows and columns"),
    ],
)
def test_a_wrong_answer_is_rejected_with_a_hint(id, answer, hint):  # noqa: A002
    found = exercises.get(id).hint(answer)
    assert found is not None
    assert hint in found, found


def test_the_prediction_is_that_of_the_page():
    assert exercises.get("6.1.c").hint("falls") is None
    assert exercises.get("6.1.c").hint("rises") is not None
