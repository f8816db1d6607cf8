"""The factorial world: its plan is balanced, and its properties are what they are called."""

from itertools import combinations

import numpy as np
import pytest
import torch

from mtlbook.auxiliary.task_features import label_entropy
from mtlbook.book.data.worlds.factorial_tasks import Levels, factorial_tasks, plan
from mtlbook.errors import UsageError

ROWS = 4000


@pytest.fixture(scope="module")
def made():
    return factorial_tasks(0, rows=ROWS)


def test_each_property_is_balanced_against_each_other():
    signs = np.array([[2 * on - 1 for on in vars(own).values()] for own in plan().values()])
    assert np.array_equal(signs.T @ signs, 8 * np.eye(4))
    products = [signs[:, a] * signs[:, b] for a, b in combinations(range(4), 2)]
    assert not np.any(np.stack(products) @ signs)


def test_entropies_are_those_of_the_shares(made):
    for name, own in plan().items():
        found = label_entropy(made.data.targets[name].numpy())
        assert found == pytest.approx(1.386 if own.uniform else 0.588, abs=0.05)


def test_tasks_of_the_common_direction_agree_up_to_sign_and_others_do_not(made):
    heads = torch.stack(list(made.heads.values()))
    cosines = (heads @ heads.T).abs()
    common = torch.tensor([own.common for own in plan().values()])
    assert torch.allclose(cosines[common][:, common], torch.ones(4, 4, dtype=torch.float64))
    assert torch.allclose(cosines[common][:, ~common], torch.zeros(4, 4, dtype=torch.float64))


def test_the_dial_takes_the_common_direction_away():
    heads = torch.stack(list(factorial_tasks(0, rows=5, common=0.0).heads.values()))
    assert bool(((heads @ heads.T).abs() - torch.eye(8) < 0.6).all())
    half = torch.stack(list(factorial_tasks(0, rows=5, common=0.5).heads.values()))
    assert torch.allclose(half.norm(dim=1), torch.ones(8, dtype=torch.float64))


def test_no_prediction_beats_the_least_loss_and_the_true_one_reaches_it(made):
    # task_3 is clean and equal: the posterior by the true signal and noise.
    signal, sigma = made.noiseless["task_3"], 0.3
    cuts = torch.quantile(
        signal + sigma * torch.randn(ROWS, generator=torch.Generator().manual_seed(0)),
        torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64),
    )
    below = torch.special.ndtr((cuts - signal[:, None]) / sigma)
    ends = torch.cat([torch.zeros(ROWS, 1), below, torch.ones(ROWS, 1)], dim=1)
    chance = ends.diff(dim=1).gather(1, made.data.targets["task_3"][:, None]).clamp(min=1e-9)
    assert float(-chance.log().mean()) == pytest.approx(made.least_loss["task_3"], abs=0.03)


def test_fewer_rows_are_the_first_and_a_task_depends_on_its_name_alone(made):
    few = factorial_tasks(0, rows=10, tasks={"task_5": plan()["task_5"]})
    assert torch.equal(few.data.inputs, made.data.inputs[:10])
    assert torch.equal(few.data.targets["task_5"], made.data.targets["task_5"][:10])


def test_no_noise_has_no_least_loss():
    own = factorial_tasks(0, rows=5, tasks={"a": Levels(True, True, False, True)}, noise=(0.0, 1.0))
    assert own.least_loss == {"a": 0.0}


@pytest.mark.parametrize(
    "wrong", [{"rows": 0}, {"common": 1.5}, {"noise": (-1.0, 0.5)}, {"tasks": {}}]
)
def test_impossible_worlds_are_refused(wrong):
    with pytest.raises(UsageError):
        factorial_tasks(0, **({"rows": 5} | wrong))
