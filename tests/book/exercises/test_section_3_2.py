import pytest
import torch

from mtlbook.book import exercises


def soft_threshold_of_elements(matrix, amount):
    return matrix.sign() * (matrix.abs() - amount).clamp(min=0)


def truncated(matrix, amount):
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    return left @ torch.diag(values * (values > amount)) @ right


def without_floor(matrix, amount):
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    return left @ torch.diag((values - amount).abs()) @ right


def without_tasks(values, step_size, strength):
    return values.mean() + (values - values.mean()) / (1 + 2 * step_size * strength)


def a_gradient_step(values, step_size, strength):
    return values - 2 * len(values) * step_size * strength * (values - values.mean())


def towards_zero(values, step_size, strength):
    return values / (1 + 2 * len(values) * step_size * strength)


@pytest.mark.parametrize(
    ("id", "answer", "hint"),
    [
        ("3.2.a", towards_zero, "leave their mean"),
        ("3.2.a", without_tasks, "mind T and the 2"),
        ("3.2.a", a_gradient_step, "mind T and the 2"),
        ("3.2.a", lambda values, step_size, strength: values.mean(), "a value for each"),
        ("3.2.b", lambda step_size, tasks: step_size, "by how much does the mean move"),
        ("3.2.b", lambda step_size, tasks: step_size * tasks, "by how much does the mean move"),
        ("3.2.b", lambda step_size, tasks: step_size / (tasks + 1), "a single task"),
        ("3.2.c", soft_threshold_of_elements, "rank falls|singular vectors"),
        ("3.2.c", truncated, "shrink, too"),
        ("3.2.c", without_floor, "becomes 0"),
    ],
)
def test_a_wrong_answer_is_rejected_with_a_hint(id, answer, hint):  # noqa: A002
    found = exercises.get(id).hint(answer)
    assert found is not None
    assert any(part in found for part in hint.split("|")), found
