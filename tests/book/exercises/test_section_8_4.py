import pytest
import torch

from mtlbook.book import exercises


def the_worst(fits, weights):
    return torch.linalg.eigh((weights[:, None] * fits).T @ fits).eigenvectors[:, 0]


def the_opposite(fits, weights):
    return -torch.linalg.eigh((weights[:, None] * fits).T @ fits).eigenvectors[:, -1]


def columns_for_rows(fits, weights):
    return torch.linalg.eigh((fits * weights) @ fits.T).eigenvectors[:, -1]


def test_a_direction_and_its_opposite_are_one():
    assert exercises.get("8.4.a").hint(the_opposite) is None


@pytest.mark.parametrize(
    ("id", "answer", "hint"),
    [
        ("8.4.a", the_worst, "worst direction"),
        ("8.4.a", columns_for_rows, "a row of the matrix"),
        ("8.4.a", lambda fits, weights: weights @ fits, "is an eigenvector"),
        ("8.4.a", lambda fits, weights: fits, "a coordinate for each"),
    ],
)
def test_a_wrong_answer_is_rejected_with_a_hint(id, answer, hint):  # noqa: A002
    found = exercises.get(id).hint(answer)
    assert found is not None
    assert hint in found, found
