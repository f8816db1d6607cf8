import numpy as np
import pytest

from mtlbook.book import exercises


def element_by_element(weights, amount):
    return np.sign(weights) * np.maximum(np.abs(weights) - amount, 0)


def without_floor(weights, amount):
    return weights * (1 - amount / np.linalg.norm(weights, axis=1, keepdims=True).clip(1e-12))


def dividing_by_zero(weights, amount):
    lengths = np.linalg.norm(weights, axis=1, keepdims=True)
    return weights / lengths * np.maximum(lengths - amount, 0)


def whole_matrix(weights, amount):
    kept = np.linalg.norm(weights, axis=1, keepdims=True) > amount
    return weights * kept


def correlations(inputs, targets, divide=True):
    pairs = zip(inputs, targets, strict=True)
    return np.stack([x.T @ y / (len(y) if divide else 1) for x, y in pairs], axis=1)


def explained(y, predicted, means):
    return 100 * (1 - ((y - predicted) ** 2).sum() / ((y - means) ** 2).sum())


def always_total(y, predicted, schools, within):
    return explained(y, predicted, y.mean())


def averaged_over_schools(y, predicted, schools, within):
    if not within:
        return explained(y, predicted, y.mean())
    rows = [schools == school for school in np.unique(schools)]
    return np.mean([explained(y[own], predicted[own], y[own].mean()) for own in rows])


def correlation(y, predicted, schools, within):
    return 100 * np.corrcoef(y, predicted)[0, 1] ** 2


def centred_predictions(y, predicted, schools, within):
    if not within:
        return explained(y, predicted, y.mean())
    means, shift = np.zeros(len(y)), np.zeros(len(y))
    for school in np.unique(schools):
        own = schools == school
        means[own], shift[own] = y[own].mean(), y[own].mean() - predicted[own].mean()
    return explained(y, predicted + shift, means)


@pytest.mark.parametrize(
    ("id", "answer", "hint"),
    [
        ("5.1.a", element_by_element, "each weight by itself"),
        ("5.1.a", without_floor, "does not turn round"),
        ("5.1.a", dividing_by_zero, "don't divide"),
        ("5.1.a", whole_matrix, "its length falls"),
        ("5.1.a", lambda weights, amount: weights[0], "the shape"),
        ("5.1.b", lambda x, y: np.abs(correlations(x, y)).max(), "still has weights"),
        ("5.1.b", lambda x, y: np.abs(correlations(x, y)).sum(axis=1).max(), "smaller one"),
        (
            "5.1.b",
            lambda x, y: np.linalg.norm(correlations(x, y, False), axis=1).max(),
            "smaller one",
        ),
        ("5.1.c", always_total, "own school"),
        ("5.1.c", averaged_over_schools, "divide once"),
        ("5.1.c", correlation, "without `within`"),
        ("5.1.c", centred_predictions, "only the denominator"),
    ],
)
def test_a_wrong_answer_is_rejected_with_a_hint(id, answer, hint):  # noqa: A002
    found = exercises.get(id).hint(answer)
    assert found is not None
    assert hint in found, found
