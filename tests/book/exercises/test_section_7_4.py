import pytest
import torch

from mtlbook.auxiliary.focusing_attention import area_share, gradient_left, squared_input_gradients
from mtlbook.book import exercises
from mtlbook.book.exercises.section_7_4 import gradient_on_the_cue, share_on_area


def squared(model, inputs):
    x = inputs.detach().requires_grad_()
    return torch.autograd.grad(model(x).sum(), x)[0].square()


def not_squared(model, inputs, area):
    own = squared(model, inputs).sqrt().sum(0)
    return float(own[area].sum() / own.sum())


def signed(model, inputs, area):
    x = inputs.detach().requires_grad_()
    own = torch.autograd.grad(model(x).sum(), x)[0].sum(0)
    return float(own[area].sum() / own.sum())


def mean_of_shares(model, inputs, area):
    own = squared(model, inputs)
    return float((own[:, area].sum(1) / own.sum(1)).mean())


def first_example_alone(model, inputs, area):
    own = squared(model, inputs)[0]
    return float(own[area].sum() / own.sum())


def not_divided(model, inputs, area):
    return float(squared(model, inputs)[:, area].sum())


@pytest.mark.parametrize(
    ("id", "answer", "hint"),
    [
        ("7.4.a", not_squared, "square the gradients"),
        ("7.4.a", signed, "square the gradients"),
        ("7.4.a", mean_of_shares, "mean of each example's share"),
        ("7.4.a", first_example_alone, "sum their squares over the examples"),
        ("7.4.a", not_divided, "10/14"),
        ("7.4.b", lambda q, r, learnt: 2 * gradient_on_the_cue(q, r, learnt), "twice too large"),
        ("7.4.b", lambda q, r, learnt: 0.5 * (2 * r - 1), "case"),
    ],
)
def test_a_wrong_answer_is_rejected_with_a_hint(id, answer, hint):  # noqa: A002
    found = exercises.get(id).hint(answer)
    assert found is not None
    assert hint in found, found


@pytest.mark.usefixtures("double")
def test_the_references_are_the_librarys():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    x, area = torch.randn(7, 5), torch.tensor([True, False, True, False, False])
    own = area_share(squared_input_gradients(model, x), area)
    assert abs(share_on_area(model, x, [0, 2]) - float(own.detach())) < 1e-12
    for q in (0.5, 0.85, 0.98):
        left = gradient_on_the_cue(q, 0.9, True) / gradient_on_the_cue(q, 0.9, False)
        assert abs(left - gradient_left(q)) < 1e-12
