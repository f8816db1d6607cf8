from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.layers.dropout import Dropout, uniform
from mtlbook.randomness import generator
from mtlbook.sharing.hard import HardSharing
from mtlbook.tasks import Task
from mtlbook.training.fit import Fit, fit

TASK = Task.regression("level")


def splitmix64(number: int) -> float:
    """The finaliser in Python's unbounded integers."""
    mask = 2**64 - 1
    number &= mask
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & mask
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & mask
    return ((number ^ (number >> 31)) >> 11) / 2**53


def test_uniform_is_splitmix64():
    numbers = [0, 1, -1, 12345, 2**62, -(2**63), 2**63 - 1]
    expected = [splitmix64(number) for number in numbers]
    assert uniform(torch.tensor(numbers)).tolist() == expected


def test_masks_are_uniform_and_differ_between_steps_and_layers():
    drawn = uniform(torch.arange(200_000))
    counts = torch.histc(drawn, bins=20, min=0, max=1)
    # Chi-squared with 19 degrees of freedom: 43.8 is its 0.999 quantile.
    assert float((counts - 10_000).square().sum() / 10_000) < 43.8
    layer, other = Dropout(0.3), Dropout(0.3)
    ones = torch.ones(50_000, dtype=torch.float64)
    first, second, third = layer(ones), layer(ones), other(ones)
    assert float((first == 0).double().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(first.mean()) == pytest.approx(1, abs=0.02)
    for another in (second, third):
        agreement = float(((first == 0) == (another == 0)).double().mean())
        assert agreement == pytest.approx(0.3**2 + 0.7**2, abs=0.01)


def train(**options: Any) -> Fit:
    inputs = torch.randn(90, 4, generator=generator(0, "inputs"), dtype=torch.float64)
    data = MultiTaskData.multi_label([TASK], inputs, {"level": inputs.prod(1)})

    def build() -> HardSharing:
        return HardSharing([nn.Linear(4, 8), nn.Tanh(), Dropout(0.4)], [TASK], width=8)

    return fit(build, data, **{"seeds": range(3), "steps": 30, **options})


def test_all_seeds_at_once_equal_one_after_another():
    together, apart, alone = train(), train(vectorise=False), train(seeds=[1])
    np.testing.assert_allclose(together.score("level"), apart.score("level"), rtol=1e-9)
    np.testing.assert_allclose(together.score("level")[1:2], alone.score("level"), rtol=1e-9)


def test_an_impossible_probability_is_refused():
    with pytest.raises(UsageError, match="from 0 to below 1, not 1"):
        Dropout(1.0)
