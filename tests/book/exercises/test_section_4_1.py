import pytest

from mtlbook.book import exercises


def plain_mean(targets, factors):
    return targets.mean(1)


def mean_of_the_tasks_estimates(targets, factors):
    return (targets / factors).mean(1)


def for_each_task(targets, factors):
    return targets / factors


def not_normalised(targets, factors):
    return targets @ factors


def straight(error, small, error_small, large, error_large):
    return small + (large - small) * (error_small - error) / (error_small - error_large)


def half_logarithmic(error, small, error_small, large, error_large):
    return small * (large / small) ** ((error_small - error) / (error_small - error_large))


def the_other_way_round(error, small, error_small, large, error_large):
    return straight(error, large, error_small, small, error_large)


def test_a_rounded_correlation_is_accepted():
    assert exercises.get("4.1.b").hint(0.43) is None


@pytest.mark.parametrize(
    ("id", "answer", "hint"),
    [
        ("4.1.a", plain_mean, "without noise must give F"),
        ("4.1.a", not_normalised, "without noise must give F"),
        ("4.1.a", for_each_task, "one estimate for each row"),
        ("4.1.a", mean_of_the_tasks_estimates, "too much weight"),
        ("4.1.b", 0.5, "eight tasks are worth 1.78"),
        ("4.1.b", 0.25, "solve"),
        ("4.1.b", 3, "between 0 and 1"),
        ("4.1.d", straight, "straight in the numbers themselves"),
        ("4.1.d", half_logarithmic, "both axes are logarithmic"),
        ("4.1.d", the_other_way_round, "needs just these examples"),
    ],
)
def test_a_wrong_answer_is_rejected_with_a_hint(id, answer, hint):  # noqa: A002
    found = exercises.get(id).hint(answer)
    assert found is not None
    assert hint in found, found
