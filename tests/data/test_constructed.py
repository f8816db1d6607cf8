"""Constructed worlds: their dials against the correlations and ranks that they promise."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest
from torch import Tensor

from mtlbook.data.constructed import layered_tasks, related_tasks, two_scales
from mtlbook.data.synthetic import SyntheticDataset
from mtlbook.errors import UsageError


def correlations(world: SyntheticDataset) -> Tensor:
    """The correlations between the noiseless targets of all tasks."""
    return torch.corrcoef(torch.cat(list(world.noiseless.values()), dim=1).T)


def off_diagonal(matrix: Tensor) -> Tensor:
    return matrix[~torch.eye(len(matrix), dtype=torch.bool)]


def same(first: SyntheticDataset, second: SyntheticDataset, task: str, rows: int) -> bool:
    """Whether two worlds agree in the first rows of a task, and in its truth."""
    a, b = first.data, second.data
    return (
        torch.equal(a.inputs[a.labelled[task]][:rows], b.inputs[b.labelled[task]][:rows])
        and torch.equal(
            a.targets[task][a.labelled[task]][:rows], b.targets[task][b.labelled[task]][:rows]
        )
        and torch.equal(first.features[task], second.features[task])
        and torch.equal(first.heads[task], second.heads[task])
    )


@settings(max_examples=20)
@given(
    rows=st.integers(1, 40),
    more=st.integers(0, 40),
    tasks=st.integers(1, 3),
    further=st.integers(0, 3),
    same_inputs=st.booleans(),
)
def test_more_rows_and_more_tasks_leave_the_earlier_ones(rows, more, tasks, further, same_inputs):
    small = related_tasks(7, tasks=tasks, rows=rows, shared_heads=0.5, same_inputs=same_inputs)
    large = related_tasks(
        7, tasks=tasks + further, rows=rows + more, shared_heads=0.5, same_inputs=same_inputs
    )
    assert all(same(small, large, task.name, rows) for task in small.data.tasks)


def test_seeds_differ_and_repeat():
    one, again, other = (related_tasks(seed, tasks=1, rows=10) for seed in (1, 1, 2))
    assert same(one, again, "task_1", 10)
    assert not same(one, other, "task_1", 10)


def test_inputs_and_noise_are_standard_normal():
    world = related_tasks(0, tasks=2, rows=5000, noise=1.0)
    noise = torch.cat(
        [
            world.data.targets[name][world.data.labelled[name]] - clean
            for name, clean in world.noiseless.items()
        ]
    )
    assert kstest(world.data.inputs.flatten().numpy(), "norm").pvalue > 1e-3
    assert kstest(noise.flatten().numpy(), "norm").pvalue > 1e-3
    # The two tasks' inputs and noises are different draws.
    assert abs(float(torch.corrcoef(noise.view(2, -1))[0, 1])) < 0.05


def test_noise_has_the_size_asked_for():
    worlds = [related_tasks(0, tasks=1, rows=50, noise=noise) for noise in (0.0, 0.5, 1.0)]
    none, half, whole = (world.data.targets["task_1"] for world in worlds)
    assert torch.equal(none, worlds[0].noiseless["task_1"])
    torch.testing.assert_close(2 * (half - none), whole - none)


def test_the_signal_is_what_the_documented_equation_says():
    world = related_tasks(3, tasks=1, rows=200, linear=False)
    x = world.data.inputs
    signal = torch.tanh(x @ world.features["task_1"]) @ world.heads["task_1"]
    ratio = signal / world.noiseless["task_1"][:, 0]
    torch.testing.assert_close(ratio, ratio[:1].expand(200))
    assert ratio[0] > 0


@pytest.mark.parametrize("linear", [True, False])
def test_the_signal_has_unit_variance(linear: bool):
    world = related_tasks(3, tasks=3, rows=20_000, linear=linear, same_inputs=True)
    for clean in world.noiseless.values():
        assert float(clean.var()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_features_and_heads_correlate_as_the_dials_say(share: float):
    def correlation(weights: dict[str, Tensor]) -> float:
        flat = torch.stack([weight.flatten() for weight in weights.values()])
        return float(torch.corrcoef(flat)[0, 1])

    world = related_tasks(
        0,
        tasks=2,
        rows=1,
        inputs=5,
        features=4000,
        shared_features=share,
        shared_heads=1 - share,
        linear=True,
    )
    assert correlation(world.features) == pytest.approx(share, abs=0.03)
    assert correlation(world.heads) == pytest.approx(1 - share, abs=0.06)
    # Entries keep their variance 4 / inputs wherever the dial stands.
    assert float(world.features["task_2"].var()) == pytest.approx(4 / 5, rel=0.05)


@pytest.mark.parametrize("linear", [True, False])
def test_correlation_between_tasks_follows_the_dial_of_the_heads(linear: bool):
    dial = (0.0, 0.5, 1.0)
    mean = [
        sum(
            float(
                off_diagonal(
                    correlations(
                        related_tasks(
                            seed,
                            tasks=6,
                            rows=200,
                            shared_heads=share,
                            same_inputs=True,
                            linear=linear,
                        )
                    )
                ).mean()
            )
            for seed in range(10)
        )
        / 10
        for share in dial
    ]
    assert abs(mean[0]) < 0.15
    assert 0.25 < mean[1] < 0.75
    assert mean[2] == pytest.approx(1, abs=1e-9)


def test_a_shared_representation_is_a_subspace_of_its_width():
    def rank(shared_features: float) -> int:
        world = related_tasks(
            0, tasks=10, rows=100, shared_features=shared_features, same_inputs=True, linear=True
        )
        clean = torch.cat(list(world.noiseless.values()), dim=1)
        return int(torch.linalg.matrix_rank(torch.linalg.lstsq(world.data.inputs, clean).solution))

    assert rank(1.0) == 4
    assert rank(0.5) == rank(0.0) == 10


def test_tasks_without_shared_features_are_unrelated():
    # Of two random directions in 20 dimensions the squared cosine is 1/20, in 4 dimensions 1/4.
    def squared(shared_features: float) -> float:
        worlds = [
            related_tasks(
                seed,
                tasks=8,
                rows=1000,
                shared_features=shared_features,
                linear=True,
                same_inputs=True,
            )
            for seed in range(12)
        ]
        return float(torch.stack([off_diagonal(correlations(w)) for w in worlds]).square().mean())

    assert squared(0.0) == pytest.approx(1 / 20, abs=0.02)
    assert squared(1.0) == pytest.approx(1 / 4, abs=0.08)
    assert squared(0.0) < squared(0.5) < squared(1.0)


def test_clusters_share_within_and_not_across():
    within, across = [], []
    for seed in range(20):
        matrix = correlations(
            related_tasks(seed, tasks=(2, 2, 1), rows=500, shared_heads=1.0, same_inputs=True)
        )
        within += [matrix[0, 1], matrix[2, 3]]
        across += [matrix[0, 2], matrix[0, 4], matrix[2, 4]]
    torch.testing.assert_close(torch.stack(within), torch.ones(40, dtype=torch.float64))
    assert abs(float(torch.stack(across).mean())) < 0.15
    assert float(torch.stack(across).abs().max()) < 0.9


def test_one_cluster_is_the_plain_world():
    first, second = (related_tasks(0, tasks=tasks, rows=4) for tasks in (3, (3,)))
    assert all(same(first, second, name, 4) for name in ("task_1", "task_2", "task_3"))


def test_several_data_sets_or_one():
    several = related_tasks(0, tasks=2, rows=5).data
    together = related_tasks(0, tasks=2, rows=5, same_inputs=True).data
    assert several.inputs.shape == (10, 20)
    assert set(several.groups()) == {("task_1",), ("task_2",)}
    assert together.inputs.shape == (5, 20)
    assert set(together.groups()) == {("task_1", "task_2")}


def test_the_dial_of_two_scales_moves_the_loss_of_one_task_only():
    small, large = (two_scales(0, rows=500, scale=scale) for scale in (1.0, 30.0))
    assert torch.equal(small.data.inputs, large.data.inputs)
    assert torch.equal(small.data.targets["label"], large.data.targets["label"])
    torch.testing.assert_close(30 * small.data.targets["value"], large.data.targets["value"])
    torch.testing.assert_close(30 * small.noiseless["value"], large.noiseless["value"])
    label, value = small.data.tasks
    zero = torch.zeros(500, 1, dtype=torch.float64)
    ratio = value.loss(zero, large.data.targets["value"]) / value.loss(
        zero, small.data.targets["value"]
    )
    torch.testing.assert_close(ratio, torch.full_like(ratio, 900.0))
    assert float(small.noiseless["value"].var()) == pytest.approx(1, abs=0.15)
    assert int(small.data.targets["label"].bincount(minlength=label.outputs).min()) > 50


def test_labels_without_noise_are_the_largest_score():
    world = two_scales(1, rows=300, noise=0.0, classes=4)
    hidden = torch.tanh(world.data.inputs @ world.features["label"])
    spread = (
        torch.tanh(
            torch.randn(20_000, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
            @ world.features["label"]
        )
        @ world.heads["label"]
    )
    expected = (hidden @ world.heads["label"] / spread.std(0)).argmax(1)
    # The scale of each score is estimated from other inputs here: a few near ties may fall apart.
    assert float((world.data.targets["label"] == expected).double().mean()) > 0.97
    assert torch.equal(world.data.targets["label"], world.noiseless["label"])
    assert torch.equal(world.features["label"], world.features["value"])


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_the_features_of_two_scales_correlate_as_the_dial_says(share: float):
    worlds = [two_scales(seed, rows=2, shared_features=share) for seed in range(40)]
    pairs = torch.stack(
        [
            torch.cat([world.features[name].flatten() for world in worlds])
            for name in ("label", "value")
        ]
    )
    assert float(torch.corrcoef(pairs)[0, 1]) == pytest.approx(share, abs=0.05)
    assert float(pairs[0].var()) == pytest.approx(4 / 20, rel=0.1)


def test_other_features_of_the_label_leave_the_value_as_it_is():
    alike, other = (two_scales(3, rows=50, shared_features=share) for share in (1.0, 0.0))
    assert same(alike, other, "value", 50)
    assert not torch.equal(alike.data.targets["label"], other.data.targets["label"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tasks": 0}, "tasks must be at least 1"),
        ({"tasks": ()}, "tasks must be at least 1"),
        ({"tasks": (2, 0)}, "tasks must be at least 1"),
        ({"rows": 0}, "rows must be at least 1, not 0"),
        ({"features": -1}, "features must be at least 1"),
        ({"shared_features": 1.5}, "shared_features is a share"),
        ({"shared_heads": -0.1}, "shared_heads is a share"),
        ({"shared_heads": float("nan")}, "shared_heads is a share"),
    ],
)
def test_impossible_worlds_are_refused(arguments: dict, message: str):
    with pytest.raises(UsageError, match=message):
        related_tasks(0, **{"tasks": 2, "rows": 5, **arguments})


def test_an_impossible_scale_is_refused():
    with pytest.raises(UsageError, match="scale must be above 0"):
        two_scales(0, rows=5, scale=0.0)


def test_an_impossible_share_of_the_features_is_refused():
    with pytest.raises(UsageError, match="shared_features is a share: it must lie between 0 and 1"):
        two_scales(0, rows=5, shared_features=-0.5)


def test_layered_tasks_share_the_lower_layer_and_the_upper_one_as_the_dial_says():
    """The signals by hand from the truth, and upper features that correlate by the dial."""
    for dial in (0.0, 0.5, 1.0):
        world = layered_tasks(
            3, tasks=2, rows=40, inputs=6, features=200, shared_upper=dial, noise=0.0
        )
        first, second = (world.features[f"task_{number}"].flatten() for number in (1, 2))
        correlation = float(torch.corrcoef(torch.stack([first, second]))[0, 1])
        assert correlation == pytest.approx(dial, abs=0.02)  # of 40,000 pairs
        assert torch.equal(first, second) == (dial == 1)
        for name, clean in world.noiseless.items():
            assert torch.equal(world.data.targets[name], clean)


def test_layered_tasks_are_tasks_on_common_lower_features():
    """With one lower feature z every target is a function of z: equal z, equal targets."""
    world = layered_tasks(0, tasks=3, rows=2000, inputs=5, features=1, noise=0.0)
    signals = torch.cat(list(world.noiseless.values()), dim=1)
    # tanh is monotone: all the tasks' signals have one order of the rows, up to direction.
    ranks = signals.argsort(dim=0).argsort(dim=0).double()
    assert torch.allclose(torch.corrcoef(ranks.T).abs(), torch.ones(3, 3, dtype=torch.float64))
    assert torch.allclose(signals.std(0), torch.ones(3, dtype=torch.float64), atol=0.05)


def test_layered_tasks_share_their_heads_as_the_dial_says():
    for dial in (0.0, 0.5, 1.0):
        world = layered_tasks(2, tasks=2, rows=5, features=2000, shared_heads=dial)
        first, second = world.heads.values()
        correlation = float(torch.corrcoef(torch.stack([first, second]))[0, 1])
        assert correlation == pytest.approx(dial, abs=0.06)
        assert torch.equal(first, second) == (dial == 1)


def test_more_layered_tasks_leave_the_earlier_ones():
    small = layered_tasks(7, tasks=1, rows=5)
    large = layered_tasks(7, tasks=3, rows=9)
    assert same(small, large, "task_1", 5)


@pytest.mark.parametrize(
    "dials", [{"shared_upper": 1.5}, {"shared_upper": -0.1}, {"shared_heads": 2.0}, {"tasks": 0}]
)
def test_impossible_layered_tasks_are_refused(dials):
    with pytest.raises(UsageError):
        layered_tasks(0, **{"tasks": 2, "rows": 5} | dials)
