import pytest

from mtlbook.auxiliary.related_task import PooledRows
from mtlbook.book import exercises
from mtlbook.book.exercises.section_7_1 import best_weight, rows_for_half


def equal_noise(spread, related_spread, cosine, related_rows):
    return spread / (2 * (1 - cosine) * related_rows + spread)


def of_all_rows(spread, related_spread, cosine, related_rows):
    return best_weight(spread, related_spread, cosine, related_rows) * related_rows


def distance_not_squared(spread, related_spread, cosine, related_rows):
    return spread / ((1 - cosine) * related_rows + related_spread)


def test_the_references_are_the_packages_formulas():
    own = PooledRows(rows=50, related_rows=800, cosine=0.7, inputs=20, noise=1.0)
    assert best_weight(20.0, 20.0, 0.7, 800) == pytest.approx(own.best_weight)
    half = PooledRows(
        rows=50, related_rows=round(rows_for_half(21.0, 0.7)), cosine=0.7, inputs=21, noise=1.0
    )
    assert half.effective_rows() - 50 == pytest.approx((half.most_rows - 50) / 2)


@pytest.mark.parametrize(
    ("id", "answer", "hint"),
    [
        ("7.1.a", equal_noise, "less noise count more"),
        ("7.1.a", of_all_rows, "divide by n′"),
        ("7.1.a", distance_not_squared, "derivative"),
        ("7.1.b", lambda spread, cosine: spread / (4 * (1 - cosine)), "which n′ has it"),
        ("7.1.b", lambda spread, cosine: spread / (1 - cosine), "is worth"),
        ("7.1.b", lambda spread, cosine: -1.0, "positive"),
    ],
)
def test_a_wrong_answer_is_rejected_with_a_hint(id, answer, hint):  # noqa: A002
    found = exercises.get(id).hint(answer)
    assert found is not None
    assert hint in found, found
