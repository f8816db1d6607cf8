import numpy as np
import pytest
from scipy.stats import rankdata

from mtlbook.book import exercises


def worst_first(delta_m, at_home):
    return np.nanmean(np.where(at_home, np.nan, rankdata(delta_m, axis=0)), axis=1)


def homes_included(delta_m, at_home):
    return rankdata(-delta_m, axis=0).mean(1)


def ranked_without_the_one_at_home(delta_m, at_home):
    left = np.where(at_home, -np.inf, delta_m)
    return np.nanmean(np.where(at_home, np.nan, rankdata(-left, axis=0)), axis=1)


def by_world(delta_m, at_home):
    return rankdata(-delta_m, axis=0).mean(0)


def variance(tau, sigma, worlds, seeds):
    return tau**2 / worlds + sigma**2 / (worlds * seeds)


def all_are_replicates(tau, sigma, worlds, seeds):
    return ((tau**2 + sigma**2) / (worlds * seeds)) ** 0.5


def worlds_only(tau, sigma, worlds, seeds):
    return tau / worlds**0.5


@pytest.mark.parametrize(
    ("id", "answer", "hint"),
    [
        ("6.9.a", worst_first, "rank 1 is the best"),
        ("6.9.a", homes_included, "doesn't count in its own mean"),
        ("6.9.a", ranked_without_the_one_at_home, "the one at home, too"),
        ("6.9.a", by_world, "each of 3 methods"),
        ("6.9.b", variance, "square root"),
        ("6.9.b", all_are_replicates, "more seeds do not average out"),
        ("6.9.b", worlds_only, "it is"),
    ],
)
def test_a_likely_mistake_gets_its_own_hint(id, answer, hint):  # noqa: A002
    assert hint in str(exercises.get(id).hint(answer))


@pytest.mark.parametrize("id", ["6.9.a", "6.9.b"])
def test_the_reference_answers_are_right(id):  # noqa: A002
    assert exercises.get(id).hint(exercises.get(id).reference) is None


def test_seeds_hardly_matter_where_worlds_differ():
    error = exercises.get("6.9.b").reference
    assert error(5.0, 5.0, 12, 64) / error(5.0, 5.0, 12, 16) > 0.95
    assert exercises.get("6.9.c").hint("hardly") is None
