import pytest

from mtlbook.book import exercises


def weights_that_add_up_to_one(own, other, overlap):
    return overlap * own + (1 - overlap) * other


def only_its_own(own, other, overlap):
    return overlap * own + (1 - overlap**2) ** 0.5 * other.flip(1)


def of_each_example(first, second, middle):
    return (middle - (first + second) / 2).clamp(min=0).square()


def both_sides(first, second, middle):
    return (middle - (first + second) / 2).square().mean()


def sum_instead_of_mean(first, second, middle):
    return (middle - (first + second)).clamp(min=0).square().mean()


def concave(first, second, middle):
    return ((first + second) / 2 - middle).clamp(min=0).square().mean()


def not_squared(first, second, middle):
    return (middle - (first + second) / 2).clamp(min=0).mean()


def never(first, second, middle):
    return 0 * (first + second + middle).mean()


def without_the_factor_of_four(strength, even_part, noise):
    return noise**2 + (even_part * strength / (1 + strength)) ** 2


def with_the_penalty(strength, even_part, noise):
    return noise**2 + even_part**2 * 4 * strength / (1 + 4 * strength)


@pytest.mark.parametrize(
    ("id", "answer", "hint"),
    [
        ("4.3.a", weights_that_add_up_to_one, "length 1"),
        ("4.3.a", only_its_own, "other directions"),
        ("4.3.a", lambda own, other, overlap: other, "scalar product"),
        ("4.3.a", lambda own, other, overlap: own[:, :1], "as many features"),
        ("4.3.b", of_each_example, "mean over the batch"),
        ("4.3.b", both_sides, "only a violation counts"),
        ("4.3.b", sum_instead_of_mean, "the violation is"),
        ("4.3.b", concave, "only a violation counts"),
        ("4.3.b", not_squared, "squared like the others"),
        ("4.3.b", never, "does not notice"),
        ("4.3.c", without_the_factor_of_four, "only shrinks"),
        ("4.3.c", with_the_penalty, "without the penalty"),
        ("4.3.c", lambda strength, even_part, noise: noise**2, "all of the even part is missing"),
        ("4.3.c", lambda strength, even_part, noise: noise, "only the noise is left"),
    ],
)
def test_a_wrong_answer_is_rejected_with_a_hint(id, answer, hint):  # noqa: A002
    found = exercises.get(id).hint(answer)
    assert found is not None
    assert hint in found
