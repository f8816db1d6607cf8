"""The distance of domains against the best classifier, and the bound against its definition."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from torch import Tensor, nn

from mtlbook.book.data.shifted_digits import two_domains
from mtlbook.book.experiments.domains import (
    Inside,
    a_distance,
    alignment,
    inside,
    least_joint_error,
    measured,
    proxy_a_distance,
)
from mtlbook.data.multi_task_data import Holdout
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.tasks import Task


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


SIGN = Task.classification("sign", classes=2)
SPLIT = Holdout(train=10, validation=0, test=10)


def signs(_seed: int):
    """Source: the label is the sign of the input. Target: the same inputs, every label wrong."""
    inputs = torch.linspace(-1, 1, 20, dtype=torch.float64).view(-1, 1)
    labels = (inputs[:, 0] > 0).long()
    return two_domains((inputs, labels), (inputs, 1 - labels), SIGN)


class BySign(nn.Module):
    """Features are the inputs; class 1 where they are positive; a domain head that says source."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Identity()
        label, domain = nn.Linear(1, 2).double(), nn.Linear(1, 1).double()
        with torch.no_grad():
            label.weight.copy_(torch.tensor([[-1.0], [1.0]]))
            label.bias.zero_()
            domain.weight.zero_()
            domain.bias.fill_(-1.0)
        self.heads = nn.ModuleDict({"sign": label})
        self.adversaries = nn.ModuleDict({"domain": domain})


def test_the_inside_of_the_test_rows_has_both_domains_and_the_hidden_labels():
    seen = inside(BySign(), signs(0), SPLIT, 0)
    assert seen.features.shape == (20, 1)
    assert int(seen.of_target.sum()) == 10
    positive = (seen.features[:, 0] > 0).long()
    assert torch.equal(seen.labels, torch.where(seen.of_target, 1 - positive, positive))


def test_errors_are_measured_on_both_domains():
    found = measured({0: BySign(), 3: BySign()}, signs, SPLIT, distances=True)
    assert found["seed"].tolist() == [0, 3]
    assert found["source error"].tolist() == [0, 0]
    assert found["target error"].tolist() == [1, 1]
    assert found["own domain head"].tolist() == [0.5, 0.5]
    distances = 4 * found["fresh classifier"].to_numpy() - 2
    assert found["proxy A-distance"].tolist() == pytest.approx(distances.tolist())
    assert "proxy A-distance" not in measured({0: BySign()}, signs, SPLIT)


@pytest.mark.parametrize(("swapped", "share"), [(False, 1.0), (True, 0.0)])
def test_alignment_tells_matched_classes_from_exchanged_ones(swapped: bool, share: float):
    """Two classes at ±3 with a spread of 1; the target's lie one unit higher."""
    features = torch.tensor([[-4.0], [-2.0], [2.0], [4.0]]).repeat(2, 1)
    of_target = torch.arange(8) >= 4
    features[of_target] += 1
    labels = torch.tensor([0, 0, 1, 1]).repeat(2)
    if swapped:
        labels[of_target] = 1 - labels[of_target]
    found = alignment(Inside(features, of_target, labels))
    assert found["domains apart"] == pytest.approx(1)
    assert found["same class apart"] == pytest.approx(6 if swapped else 1)
    assert found["nearest is the same class"] == share
