"""Two tasks whose relation is a number, and two whose relation depends on the input."""

import pytest
import torch

from mtlbook.book.data.worlds.mixed_relation import correlation, cosine_related, input_dependent
from mtlbook.errors import UsageError
from tests.equal import exactly

GENERATORS = [cosine_related, input_dependent]


def norms(made):
    return torch.stack(list(made.heads.values())).norm(dim=1)


@pytest.mark.parametrize("cosine", [-1.0, -0.3, 0.0, 0.5, 1.0])
def test_the_directions_have_the_cosine_and_length_one(cosine):
    made = cosine_related(3, rows=5, cosine=cosine)
    first, second = made.heads.values()
    exactly(first @ second, torch.tensor(cosine, dtype=torch.float64))
    exactly(norms(made), torch.ones(2, dtype=torch.float64))


def test_by_hand():
    """The paper's formula, wave by wave, with the numbers that the seed draws."""
    from mtlbook.randomness import generator, standard_normal

    made = cosine_related(2, rows=6, cosine=0.5, waves=3, noise=0.0)
    alpha, beta = standard_normal(generator(2, "waves"), 2, 3).tolist()
    raw = torch.stack([made.data.inputs @ w for w in made.heads.values()], dim=1)
    waves = [torch.sin(a * raw + b) for a, b in zip(alpha, beta, strict=True)]
    expected = raw + waves[0] + waves[1] + waves[2]
    ratio = made.targets / expected
    # But for the scale, which is one number.
    torch.testing.assert_close(ratio, ratio[0, 0].expand(6, 2))


def test_the_waves_do_not_depend_on_the_cosine():
    near, far = (cosine_related(1, rows=50, cosine=cosine) for cosine in (0.9, -0.9))
    exactly(near.noiseless["first"], far.noiseless["first"])


def test_the_correlation_grows_with_the_cosine_and_is_smaller():
    found = [
        sum(correlation(cosine_related(seed, rows=4_000, cosine=p)) for seed in range(8)) / 8
        for p in (0.0, 0.5, 0.9)
    ]
    assert abs(found[0]) < 0.05
    assert 0.1 < found[1] < 0.5
    assert found[1] + 0.2 < found[2] < 0.9


@pytest.mark.parametrize(
    ("made", "cosine"),
    [
        (cosine_related(0, rows=30, cosine=1.0), 1.0),
        (input_dependent(0, rows=30, apart=0.0), 0.0),
    ],
)
def test_with_the_mechanism_off_the_tasks_are_one(made, cosine):
    first, second = made.heads.values()
    exactly(first @ second, torch.tensor(cosine, dtype=torch.float64))
    exactly(made.noiseless["first"], made.noiseless["second"])
    # Their noise is not.
    assert not torch.equal(made.targets[:, 0], made.targets[:, 1])


@pytest.mark.parametrize("apart", [0.2, 0.5])
def test_the_first_input_alone_decides_where_the_tasks_are_one(apart):
    made = input_dependent(5, rows=20_000, apart=apart, inputs=6)
    same = made.signals[:, 0] == made.signals[:, 1]
    x = made.data.inputs[:, 0]
    assert float(x[same].min()) > float(x[~same].max())
    assert float(same.double().mean()) == pytest.approx(1 - apart, abs=0.02)
    apart_only = made.signals[~same]
    assert abs(float(torch.corrcoef(apart_only.T)[0, 1])) < 0.1
    assert all(float(w[0]) == 0 for w in made.heads.values())


def test_entirely_apart_the_second_task_has_a_direction_of_its_own():
    made = input_dependent(5, rows=20_000, apart=1.0)
    assert abs(correlation(made)) < 0.05


@pytest.mark.parametrize("make", GENERATORS)
def test_signals_have_variance_one_and_the_noise_is_what_is_said(make):
    made = make(0, rows=20_000, noise=0.3)
    exactly(norms(made), torch.ones(2, dtype=torch.float64))
    for name, signal in made.noiseless.items():
        assert float(signal.var()) == pytest.approx(1.0, abs=0.05)
        assert float((made.data.targets[name] - signal).std()) == pytest.approx(0.3, abs=0.01)
        assert made.least_loss[name] == pytest.approx(0.09)


@pytest.mark.parametrize("make", GENERATORS)
def test_fewer_rows_are_the_first_rows_of_more(make):
    few, many = (make(4, rows=rows) for rows in (7, 50))
    assert torch.equal(few.data.inputs, many.data.inputs[:7])
    for name in few.noiseless:
        torch.testing.assert_close(few.data.targets[name], many.data.targets[name][:7])


@pytest.mark.parametrize(
    ("make", "wrong", "told"),
    [
        (cosine_related, {"cosine": 1.2}, "cosine is that of two directions"),
        (cosine_related, {"inputs": 1}, "inputs must be at least 2"),
        (cosine_related, {"waves": 0}, "waves must be at least 1"),
        (input_dependent, {"apart": -0.1}, "apart is a share"),
        (input_dependent, {"inputs": 2}, "inputs must be at least 3"),
        (input_dependent, {"noise": -1.0}, "noise must be a number"),
        (input_dependent, {"tasks": ("one", "one")}, "two names"),
    ],
)
def test_the_impossible_is_refused(make, wrong, told):
    with pytest.raises(UsageError, match=told):
        make(0, **{"rows": 5} | wrong)
