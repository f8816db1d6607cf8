import pytest
import torch

from mtlbook.book import exercises


def of_a_linear_network(weight, bias, head, x):
    return head @ weight


def without_bias(weight, bias, head, x):
    return (head * (1 - torch.tanh(weight @ x) ** 2)) @ weight


def per_hidden_unit(weight, bias, head, x):
    return head * (1 - torch.tanh(weight @ x + bias) ** 2)


def one_by_one(weight, amount):
    return weight.sign() * (weight.abs() - amount).clamp(min=0)


def dividing_by_nothing(weight, amount):
    length = weight.norm(dim=0)
    return (length - amount).clamp(min=0) * weight / length


def never_off(weight, amount):
    length = weight.norm(dim=0).clamp(min=1e-12)
    return weight * (1 - amount / length)


def scaled(weight, amount):
    return weight / (1 + amount) * (weight.norm(dim=0) > amount)


@pytest.mark.parametrize(
    ("id", "answer", "hint"),
    [
        ("4.2.a", of_a_linear_network, "linear network"),
        ("4.2.a", without_bias, "with the bias"),
        ("4.2.a", per_hidden_unit, "each of the 3 inputs"),
        ("4.2.b", one_by_one, "one group"),
        ("4.2.b", dividing_by_nothing, "don't divide"),
        ("4.2.b", never_off, "becomes 0 as a whole"),
        ("4.2.b", scaled, "loses the amount"),
        ("4.2.b", lambda weight, amount: weight.norm(dim=0), "shape of the weights"),
        ("4.2.c", lambda examples: examples / 50, "not worth as much"),
        ("4.2.c", lambda examples: (examples / 50) ** 0.5, "stand out"),
        ("4.2.c", lambda examples: examples**2, "one task is enough"),
    ],
)
def test_a_wrong_answer_is_rejected_with_a_hint(id, answer, hint):  # noqa: A002
    found = exercises.get(id).hint(answer)
    assert found is not None
    assert hint in found, found
