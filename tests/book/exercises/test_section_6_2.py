import pytest
import torch

from mtlbook.book import exercises


def both_hard_alone(margins):
    hard = (margins >= margins.mean(0)).double()
    return hard.T @ hard / len(hard)


def by_the_median(margins):
    hard = (margins >= margins.median(0).values).double()
    return (hard.T @ hard + (1 - hard).T @ (1 - hard)) / len(hard)


def counted(margins):
    hard = (margins >= margins.mean(0)).double()
    return hard.T @ hard + (1 - hard).T @ (1 - hard)


def correlations(margins):
    return torch.corrcoef(margins.T)


def flat(margins):
    return margins.mean(0)


def least_of_group(of_branches, groups):
    labels = torch.tensor(groups)
    return torch.where(labels[:, None] == labels, of_branches, 2.0).amin(1)


def over_branches(of_branches, groups, cost, alpha):
    least = least_of_group(of_branches, groups)
    return (len(set(groups)) - 1) * cost + alpha * float(1 - least.mean())


def every_branch_paid(of_branches, groups, cost, alpha):
    return exercises.get("6.2.b").reference(of_branches, groups, cost, alpha) + cost


def the_mean_affinity(of_branches, groups, cost, alpha):
    labels = torch.tensor(groups)
    inside = [of_branches[labels == own][:, labels == own].mean() for own in labels.unique()]
    return (len(inside) - 1) * cost + alpha * float(1 - torch.stack(inside).mean())


@pytest.mark.parametrize(
    ("id", "answer", "hint"),
    [
        ("6.2.a", both_hard_alone, "easy for both"),
        ("6.2.a", by_the_median, "not the median"),
        ("6.2.a", counted, "the mean over the rows"),
        ("6.2.a", correlations, "share of rows"),
        ("6.2.a", flat, "each pair of tasks"),
        ("6.2.b", over_branches, "the mean over the groups"),
        ("6.2.b", every_branch_paid, "one group costs nothing"),
        ("6.2.b", the_mean_affinity, "least affinity"),
        ("6.2.c", lambda first, second: first * second, "easy for both"),
        ("6.2.c", lambda first, second: 1 - abs(first - second), "two products"),
        ("6.2.d", "sideways", "one of"),
    ],
)
def test_a_wrong_answer_is_told_why(id, answer, hint):  # noqa: A002
    message = exercises.get(id).hint(answer)
    assert message is not None
    assert hint in message
