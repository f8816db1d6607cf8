"""The exercises of section 4.5: likely mistakes meet a hint."""

import pytest
import torch

from mtlbook.book import exercises
from mtlbook.mechanisms.regularisation import equal_width

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
    assert equal_width(width, tasks=tasks, inputs=inputs) == round(wide)
