import numpy as np
import pytest
import torch
from torch import Tensor

from mtlbook.combiner import Evidence
from mtlbook.errors import UsageError
from mtlbook.weighting.dynamic_weight_average import DynamicWeightAverage

pytestmark = pytest.mark.usefixtures("double")


def weigh(combiner: DynamicWeightAverage, losses: list[float]) -> Tensor:
    values = torch.tensor(losses)
    return combiner.weigh(Evidence(values.nan_to_num(nan=99.0), ~values.isnan()))


def test_weights_follow_the_ratio_of_the_last_two_period_means():
    combiner = DynamicWeightAverage(["a", "b", "c"], period=3, temperature=1.5)
    source = np.random.default_rng(0)
    losses = source.uniform(0.5, 4, (13, 3))
    means = losses[:12].reshape(4, 3, 3).mean(1)
    for step, own in enumerate(losses):
        period = step // 3
        exponents = np.ones(3) if period < 2 else means[period - 1] / means[period - 2]
        expected = np.exp(exponents / 1.5)
        found = weigh(combiner, own.tolist())
        np.testing.assert_allclose(found, 3 * expected / expected.sum(), rtol=1e-12)


def test_equal_rates_or_a_high_temperature_are_equal_weights():
    equal = DynamicWeightAverage(["a", "b"], period=1)
    hot = DynamicWeightAverage(["a", "b"], period=1, temperature=1e9)
    for step in range(4):
        np.testing.assert_allclose(weigh(equal, [10 / 2**step, 0.1 / 2**step]), 1, rtol=1e-12)
        np.testing.assert_allclose(weigh(hot, [1.0, 2.0**step]), 1, rtol=1e-6)


def test_means_are_over_the_steps_with_a_label():
    missing = float("nan")
    combiner = DynamicWeightAverage(["a", "b"], period=2)
    for losses in ([4.0, 1.0], [missing, 3.0], [2.0, 1.0], [missing, missing]):
        weigh(combiner, losses)
    # Of a 4, then 2; of b (1 + 3) / 2, then 1: the same rate.
    np.testing.assert_allclose(weigh(combiner, [1.0, 1.0]), 1, rtol=1e-12)
    for losses in ([1.0, missing], [1.0, 1.0], [1.0, missing]):
        weigh(combiner, losses)
    # b had no label in the last period: it counts as one that stands still.
    expected = torch.tensor([1.0, 1.0]).div(2).softmax(0) * 2
    np.testing.assert_allclose(weigh(combiner, [1.0, 1.0]), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"period": 0}, "at least one step"), ({"period": 1, "temperature": 0.0}, "positive number")],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        DynamicWeightAverage(["a"], **settings)
