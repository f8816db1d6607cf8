import math

import pytest

from mtlbook.book import exercises
from mtlbook.book.exercises.section_7_2 import least_sum_of_errors
from mtlbook.book.experiments.domains import least_joint_error


@pytest.mark.parametrize(
    ("id", "answer", "hint"),
    [
        ("7.2.a", lambda x, strength: -strength * x, "its value is x itself"),
        ("7.2.a", lambda x, strength: x, "sign must be reversed"),
        ("7.2.a", lambda x, strength: x.detach(), "no gradient gets through"),
        ("7.2.a", lambda x, strength: 2 * x.detach() - x, "for λ = 0.3"),
        ("7.2.a", lambda x, strength: x + strength * (x.detach() - x), "for λ = 1"),
        ("7.2.b", lambda strength: -math.log(2 / (1 + strength) - 1), "mind the factor 10"),
        ("7.2.b", lambda strength: math.log(2 / (1 + strength) - 1) / 10, "the sign"),
        ("7.2.b", lambda strength: strength + 1, "λ is 0 at the very start"),
        ("7.2.c", lambda source, target: source + target, "equal proportions"),
        ("7.2.c", lambda source, target: abs(source - target) / 2, "right about a share q"),
        ("7.2.c", lambda source, target: (source - target) ** 2, "choose q"),
    ],
)
def test_a_wrong_answer_is_rejected_with_a_hint(id, answer, hint):  # noqa: A002
    found = exercises.get(id).hint(answer)
    assert found is not None
    assert hint in found


@pytest.mark.parametrize(("source", "target"), [(0.5, 0.1), (0.3, 0.9), (0.0, 1.0)])
def test_the_exact_sum_of_errors_respects_the_bound(source, target):
    import torch

    shares = [torch.tensor([1 - p, p], dtype=torch.float64) for p in (source, target)]
    assert least_sum_of_errors(source, target) >= least_joint_error(shares[0], shares[1])
