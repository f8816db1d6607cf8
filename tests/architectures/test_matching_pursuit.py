from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression
from torch import Tensor, nn

from mtlbook.architectures.matching_pursuit import somp, thin_start
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from tests.equal import exactly

pytestmark = pytest.mark.usefixtures("double")


def random(*shape: int, purpose: str = "numbers") -> Tensor:
    return torch.randn(*shape, generator=generator(0, purpose))


def somp_by_loop(filters: np.ndarray, keep: int) -> list[int]:
    """Projections by least squares, one filter after another."""
    chosen: list[int] = []
    left = filters
    for _ in range(keep):
        scores = [
            -1.0 if i in chosen else float(np.abs(left @ own).sum() / np.linalg.norm(own))
            for i, own in enumerate(filters)
        ]
        chosen.append(int(np.argmax(scores)))
        basis = filters[chosen].T
        left = filters - (basis @ np.linalg.lstsq(basis, filters.T, rcond=None)[0]).T
    return chosen


@pytest.mark.parametrize("keep", [2, 6])
@pytest.mark.parametrize("seed", range(3))
def test_the_chosen_filters_are_those_of_the_loop(seed, keep):
    filters = random(9, 15, purpose=str(seed))
    chosen, coefficients = somp(filters, keep)
    assert chosen.tolist() == somp_by_loop(filters.numpy(), keep)
    fitted = LinearRegression(fit_intercept=False).fit(filters[chosen].T, filters.T)
    torch.testing.assert_close(coefficients, torch.from_numpy(fitted.coef_))


@pytest.mark.parametrize("shape", [(6, 10), (6, 4), (6, 6)])
def test_all_filters_leave_no_error(shape):
    filters = random(*shape)
    chosen, coefficients = somp(filters, 6)
    assert sorted(chosen.tolist()) == list(range(6))
    exactly(coefficients @ filters[chosen], filters)


def test_more_filters_never_leave_more_error():
    filters = random(12, 9)
    errors = []
    for keep in range(1, 13):
        chosen, coefficients = somp(filters, keep)
        errors.append(float((filters - coefficients @ filters[chosen]).norm()))
    assert all(after <= before + 1e-12 for before, after in pairwise(errors))
    # Nine weights are explained by nine filters.
    assert errors[8] < 1e-10


def test_copies_of_a_filter_are_chosen_once():
    filters = random(3, 5).repeat(4, 1)
    chosen, coefficients = somp(filters, 3)
    assert sorted(number % 3 for number in chosen.tolist()) == [0, 1, 2]
    exactly(coefficients @ filters[chosen], filters)


def stacked(width: int, second: int) -> tuple[list[nn.Module], nn.Module]:
    stages = [nn.Linear(5, width), nn.Sequential(nn.Tanh(), nn.Linear(width, second), nn.Tanh())]
    return stages, nn.Linear(second, 2)


def test_with_all_filters_the_thin_network_is_the_wide_one():
    (wide, wide_head), (thin, thin_head) = stacked(7, 6), stacked(7, 6)
    thin_start(wide, thin, [(wide_head, thin_head)])
    x = random(8, 5)
    expected = nn.Sequential(*wide, wide_head)(x)
    exactly(nn.Sequential(*thin, thin_head)(x), expected)


def convolutional(first: int, second: int) -> tuple[list[nn.Module], nn.Module]:
    stages: list[nn.Module] = [
        nn.Sequential(nn.Conv2d(2, first, 3), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(first, second, 3), nn.ReLU(), nn.Flatten()),
    ]
    return stages, nn.Linear(second * 4, 3)


def test_with_all_channels_the_thin_convolutions_are_the_wide_ones():
    (wide, wide_head), (thin, thin_head) = convolutional(5, 4), convolutional(5, 4)
    thin_start(wide, thin, [(wide_head, thin_head)])
    x = random(3, 2, 10, 10)
    exactly(nn.Sequential(*thin, thin_head)(x), nn.Sequential(*wide, wide_head)(x))


def test_a_linear_network_of_low_rank_is_cut_without_loss():
    wide = [nn.Linear(5, 12, bias=False), nn.Linear(12, 9, bias=False)]
    thin = [nn.Linear(5, 2, bias=False), nn.Linear(2, 2, bias=False)]
    heads = nn.Linear(9, 3), nn.Linear(2, 3)
    with torch.no_grad():
        wide[0].weight.copy_(random(12, 2) @ random(2, 5, purpose="right"))
    thin_start(wide, thin, [heads])
    x = random(8, 5)
    exactly(nn.Sequential(*thin, heads[1])(x), nn.Sequential(*wide, heads[0])(x))


def test_a_thin_filter_is_one_of_the_wide_filters():
    (wide, wide_head), (thin, thin_head) = stacked(20, 9), stacked(4, 3)
    thin_start(wide, thin, [(wide_head, thin_head)])
    (few, few_biases), (many, many_biases) = thin[0].parameters(), wide[0].parameters()
    rows = (few[:, None] == many).all(-1)
    assert rows.sum(1).tolist() == [1] * 4
    assert torch.equal(few_biases, many_biases[rows.nonzero()[:, 1]])


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0, 7])
def test_more_filters_than_there_are_are_refused(keep):
    with pytest.raises(UsageError, match=f"Keep 1 to 6 filters, not {keep}"):
        somp(random(6, 3), keep)


def test_a_thin_network_that_is_wider_is_refused():
    (wide, wide_head), (thin, thin_head) = stacked(4, 3), stacked(5, 3)
    with pytest.raises(UsageError, match="Keep 1 to 4 filters, not 5"):
        thin_start(wide, thin, [(wide_head, thin_head)])


@pytest.mark.parametrize(
    "stage",
    [
        nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)),
        nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 4)),
        nn.Tanh(),
    ],
)
def test_stages_of_other_layers_are_refused(stage):
    with pytest.raises(UsageError, match="give each stage one dense or convolutional layer"):
        thin_start([stage], [nn.Linear(5, 4)], [])


def test_other_numbers_of_stages_are_refused():
    with pytest.raises(UsageError, match="2 wide and 1 thin"):
        thin_start([nn.Linear(5, 4), nn.Linear(4, 4)], [nn.Linear(5, 4)], [])
