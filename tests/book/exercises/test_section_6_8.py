import pytest
import torch

from mtlbook.book import exercises


def all_columns(beta, layers):
    return torch.einsum("tl,lsnu->tnu", beta, layers)


def one_beta(beta, layers):
    return torch.einsum("l,ltnu->tnu", beta.mean(0), layers)


def all_tasks_at_once(beta, layers):
    return torch.einsum("tl,ltnu->nu", beta, layers)


def transposed(subspaces, tasks):
    return exercises.get("6.8.b").reference(subspaces, tasks).T


def hard(subspaces, tasks):
    alpha = torch.zeros(tasks * subspaces, tasks * subspaces)
    alpha[:, 0] = 1.0
    return alpha


@pytest.mark.parametrize(
    ("id", "answer", "hint"),
    [
        ("6.8.a", all_columns, "own column alone"),
        ("6.8.a", one_beta, "weight each layer"),
        ("6.8.a", all_tasks_at_once, "(tasks, examples, units)"),
        ("6.8.b", transposed, "transposed"),
        ("6.8.b", hard, "every other row its own"),
        ("6.8.b", lambda subspaces, tasks: torch.eye(subspaces * tasks), "shares nothing"),
        ("6.8.b", lambda subspaces, tasks: torch.eye(tasks), "for each of"),
    ],
)
def test_a_wrong_answer_is_rejected_with_a_hint(id, answer, hint):  # noqa: A002
    found = exercises.get(id).hint(answer)
    assert found is not None
    assert hint in found, found
