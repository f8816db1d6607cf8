"""The exercises of section 4.5: likely mistakes meet a hint."""

import pytest
import torch

from mtlbook.book import exercises
from mtlbook.mechanisms.regularisation import reduced_rank_fit

WRONG = {
    "4.5.a": [
        (lambda x, sigma: (sigma @ x).norm(), "number of rows"),
        (lambda x, sigma: ((sigma @ x).norm() / len(x)) ** 2, "no square"),
        (lambda x, sigma: (sigma @ x).sum() / len(x), "unit vector"),
    ],
    "4.5.b": [
        (lambda t, k, d: t * k, "too wide"),
        (lambda t, k, d: t * (d + 1) * k / (d + t), "biases"),
        (lambda t, k, d: t * k / 2, "both counts"),
    ],
    "4.5.c": [
        (lambda n, d, r: ((d / n) ** 0.5, r**2 / 2), "not of the size"),
        (lambda n, d, r: (1.0, r**2 / 2), "projection"),
        (lambda n, d, r: (d / n, r**2), "there are two"),
        (lambda n, d, r: (d / n, r / 2), "singular value"),
    ],
}


@pytest.mark.parametrize(
    ("name", "answer", "hint"),
    [(name, answer, hint) for name, wrong in WRONG.items() for answer, hint in wrong],
)
def test_a_wrong_answer_meets_a_hint(name, answer, hint):
    assert hint in (exercises.get(name).hint(answer) or "")


def test_the_equal_width_makes_parameters_equal():
    tasks, width, inputs = 3, 10, 7
    wide = exercises.get("4.5.b").reference(tasks, width, inputs)
    network = torch.nn.Sequential(torch.nn.Linear(inputs, width), torch.nn.Linear(width, 1))
    separate = tasks * sum(values.numel() for values in network.parameters())
    assert (inputs + 1) * wide + tasks * (wide + 1) == pytest.approx(separate)


def test_the_share_with_one_feature_is_that_of_the_package():
    y = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [0.0, 2.0]])
    x = torch.eye(4)[:, :2]
    _, share = exercises.get("4.5.c").reference(4, 2, 5**-0.5)
    assert reduced_rank_fit(x, y, rank=1) == pytest.approx(share)
