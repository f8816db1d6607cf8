"""Binary tasks in groups that share the upper of two layers."""

import math

import pytest
import torch

from mtlbook.book.data.worlds.layered_groups import group_of, layered_groups
from mtlbook.errors import UsageError
from mtlbook.randomness import generator, standard_normal
from tests.equal import exactly


def test_tasks_of_a_group_share_their_upper_layer_and_others_do_not():
    made = layered_groups(0, rows=3)
    groups = group_of(8, 3)
    names = list(made.features)
    for i, first in enumerate(names):
        for j, second in enumerate(names):
            same = torch.equal(made.features[first], made.features[second])
            assert same == (groups[i] == groups[j])


def test_one_group_shares_everything():
    made = layered_groups(0, rows=3, groups=1)
    first = made.features["task_1"]
    assert all(torch.equal(own, first) for own in made.features.values())


def test_signals_have_unit_variance_and_labels_are_balanced():
    """On average: q and z a have variance 1 each, and are nearly uncorrelated."""
    variances, shares = [], []
    for seed in range(20):
        made = layered_groups(seed, rows=5_000)
        variances += [float(signal.var()) for signal in made.noiseless.values()]
        shares += [float(target.mean()) for target in made.data.targets.values()]
    assert sum(variances) / len(variances) == pytest.approx(1.0, abs=0.05)
    assert sum(shares) / len(shares) == pytest.approx(0.5, abs=0.05)


def test_tasks_are_equal_in_a_group_where_everything_is_shared():
    made = layered_groups(2, rows=50, shared_upper=1.0, noise=0.0)
    exactly(made.noiseless["task_1"], made.noiseless["task_2"])
    assert torch.equal(made.data.targets["task_1"], made.data.targets["task_3"])
    assert not torch.equal(made.data.targets["task_1"], made.data.targets["task_4"])


def test_the_signal_is_the_documented_function():
    made = layered_groups(5, rows=400, shared_upper=0.8)
    lower = 2 / 20**0.5 * standard_normal(generator(5, "lower"), 20, 4)
    z = torch.tanh(made.data.inputs @ lower)
    for name, signal in made.noiseless.items():
        first, second = made.features[name].T
        common = torch.tanh(z @ first) * torch.tanh(z @ second)
        parts = torch.cat([common[:, None], z], dim=1)
        weights = torch.linalg.lstsq(parts, signal).solution
        torch.testing.assert_close(parts @ weights, signal)
        assert float(first @ second) == pytest.approx(0, abs=1e-12)
        assert float(first.norm()) == pytest.approx(2)


def test_fewer_rows_are_the_first_of_more_and_a_task_leaves_the_others():
    few, many = (layered_groups(3, rows=rows, groups=1) for rows in (4, 9))
    assert torch.equal(few.data.inputs, many.data.inputs[:4])
    for name, target in few.data.targets.items():
        assert torch.equal(target, many.data.targets[name][:4])
    fewer = layered_groups(3, rows=4, tasks=2, groups=1)
    for name, target in fewer.data.targets.items():
        assert torch.equal(target, few.data.targets[name])


def test_the_least_loss_is_that_of_the_true_probabilities():
    noise = 0.5
    made = layered_groups(4, rows=20_000, tasks=2, groups=1, noise=noise)
    for name, signal in made.noiseless.items():
        probability = torch.special.ndtr(signal / noise)
        loss = torch.nn.functional.binary_cross_entropy(probability, made.data.targets[name])
        assert made.least_loss[name] == pytest.approx(float(loss), abs=0.01)
    certain = layered_groups(4, rows=20, noise=0.0)
    assert set(certain.least_loss.values()) == {0.0}


def test_groups_are_as_even_as_they_can_be():
    assert group_of(6, 2) == [0, 0, 0, 1, 1, 1]
    assert group_of(7, 3) == [0, 0, 0, 1, 1, 2, 2]
    assert group_of(3, 3) == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 9}, "9 groups need at least as many tasks, and there are 8"),
        ({"groups": 0}, "groups must be at least 1"),
        ({"features": 1}, "features must be at least 2"),
        ({"rows": 0}, "rows must be at least 1"),
        ({"shared_upper": 1.5}, "shared_upper is a share"),
        ({"noise": -1.0}, "noise must be a number of at least 0"),
        ({"noise": math.nan}, "noise must be a number of at least 0"),
    ],
)
def test_what_no_data_set_can_have_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        layered_groups(0, **{"rows": 5} | options)
