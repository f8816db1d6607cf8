import pytest
import torch

from mtlbook.book import exercises


def giving_and_taking_swapped(alpha, features):
    return torch.einsum("jic,jnchw->inchw", alpha, features)


def one_unit_for_all_channels(alpha, features):
    return torch.einsum("ij,jnchw->inchw", alpha.mean(2), features)


def summed_over_channels(alpha, features):
    return torch.einsum("ijc,jnchw->inhw", alpha, features)


def never_shared(shared, stages):
    return torch.eye(2).repeat(stages, 1, 1)


def shared_in_the_mean(shared, stages):
    units = torch.eye(2).repeat(stages, 1, 1)
    units[:shared] = 0.5
    return units


def switched_too_late(shared, stages):
    units = torch.eye(2).repeat(stages, 1, 1)
    units[min(shared, stages - 1)] = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    return units


def shared_all_the_way(shared, stages):
    units = torch.eye(2).repeat(stages, 1, 1)
    units[:shared] = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    return units


def transposed(features, gradient):
    return features.flatten(1) @ gradient.flatten(1).T


def the_mean(features, gradient):
    return gradient.flatten(1) @ features.flatten(1).T / gradient[0].numel()


def own_columns_only(features, gradient):
    return torch.diag((gradient * features).flatten(1).sum(1))


def test_units_that_switch_more_than_once_are_accepted():
    """What column 2 computes below the last shared stage is used by nobody."""
    assert exercises.get("6.3.b").hint(shared_all_the_way) is None


@pytest.mark.parametrize(
    ("id", "answer", "hint"),
    [
        ("6.3.a", giving_and_taking_swapped, "takes, the second the giver"),
        ("6.3.a", one_unit_for_all_channels, "giving columns only"),
        ("6.3.a", summed_over_channels, "own shape"),
        ("6.3.b", never_shared, "switches over"),
        ("6.3.b", shared_in_the_mean, "column 1 from the bottom"),
        ("6.3.b", switched_too_late, "switches over"),
        ("6.3.b", lambda shared, stages: torch.eye(2), "behind each of the 3 stages"),
        ("6.3.c", transposed, "transposed"),
        ("6.3.c", the_mean, "not the mean"),
        ("6.3.c", own_columns_only, "chain rule"),
        ("6.3.c", lambda features, gradient: (gradient * features).sum((0, 1)), "pair of columns"),
    ],
)
def test_a_wrong_answer_is_rejected_with_a_hint(id, answer, hint):  # noqa: A002
    found = exercises.get(id).hint(answer)
    assert found is not None
    assert hint in found, found
