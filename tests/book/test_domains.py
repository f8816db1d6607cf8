"""The distance of domains against the best classifier, and the bound against its definition."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from torch import Tensor

from mtlbook.book.experiments.domains import a_distance, least_joint_error, proxy_a_distance
from mtlbook.errors import UsageError
from mtlbook.randomness import generator


def normal(*shape: int, purpose: str) -> Tensor:
    return torch.randn(*shape, generator=generator(0, purpose), dtype=torch.float64)


def test_the_a_distance_runs_from_chance_to_certainty():
    assert a_distance(0.5) == 0
    assert a_distance(0.0) == 2
    assert a_distance(0.25) == 1


def test_domains_that_are_one_are_at_distance_zero():
    source, target = normal(2000, 2, purpose="source"), normal(1000, 2, purpose="target")
    # Three standard errors of 4 ε: ε is the mean of two rates near ½.
    error = 4 * math.sqrt(0.25 / 2000 + 0.25 / 1000) / 2
    assert abs(proxy_a_distance(source, target)) < 3 * error


def test_the_distance_of_two_gaussians_is_that_of_the_best_classifier():
    """N(0, I) and N(δ, I): the least error is Φ(−|δ| / 2), and the best classifier is linear."""
    shift = torch.tensor([1.0, 0.5], dtype=torch.float64)
    source = normal(3000, 2, purpose="source")
    target = normal(3000, 2, purpose="target") + shift
    error = (1 - math.erf(float(shift.norm()) / 2 / math.sqrt(2))) / 2
    assert proxy_a_distance(source, target) == pytest.approx(a_distance(error), abs=0.1)


def test_the_distance_does_not_depend_on_how_many_rows_each_domain_has():
    near, far = normal(2000, 1, purpose="source"), normal(2000, 1, purpose="target") + 1.5
    assert proxy_a_distance(near[:200], far) == pytest.approx(proxy_a_distance(near, far), abs=0.15)


@pytest.mark.parametrize("folds", [1, 11])
def test_impossible_folds_are_refused(folds):
    with pytest.raises(UsageError, match="choose from 2 to 10 folds"):
        proxy_a_distance(torch.rand(10, 2), torch.rand(30, 2), folds=folds)


def shares(size: int) -> st.SearchStrategy[Tensor]:
    return st.lists(st.floats(0.01, 1), min_size=size, max_size=size).map(
        lambda values: torch.tensor(values, dtype=torch.float64) / sum(values)
    )


@given(shares(4), shares(4))
def test_the_bound_is_half_the_squared_jensen_shannon_distance(source, target):
    wanted = jensenshannon(source.numpy(), target.numpy(), base=2) ** 2 / 2
    assert least_joint_error(source, target) == pytest.approx(wanted, abs=1e-9)


@given(shares(3), shares(3), st.floats(0, 1))
def test_no_invariant_prediction_beats_the_bound(source, target, mixture):
    """The best that predictions of the proportions q can do errs by ½ Σ |q − p| in a domain."""
    predicted = mixture * source + (1 - mixture) * target
    errors = [float((predicted - own).abs().sum()) / 2 for own in (source, target)]
    assert sum(errors) >= least_joint_error(source, target) - 1e-12
