"""The world of low-rank mixtures: its equations, its ranks, its control."""

import pytest
import torch

from mtlbook.book.data.worlds import low_rank_mixtures as world
from mtlbook.book.data.worlds.low_rank_mixtures import low_rank_mixtures
from mtlbook.data.synthetic import SyntheticDataset
from mtlbook.errors import UsageError
from tests.equal import exactly


def stacks(seed: int, bases: int) -> list[torch.Tensor]:
    return [world._mixtures(seed, layer, 10, 6, 8, bases) for layer in (1, 2)]


@pytest.mark.parametrize("bases", [1, 3, 8])
def test_every_layer_has_as_many_dimensions_over_the_tasks_as_bases(bases: int):
    for stack in stacks(0, bases):
        layer = stack.flatten(0, 1)
        assert int(torch.linalg.matrix_rank(layer)) == min(bases, len(layer))


def test_the_targets_are_the_networks_of_the_docstring():
    made = low_rank_mixtures(3, rows=40, noise=0.0)
    x = made.data.inputs
    for name, target in made.data.targets.items():
        signal = torch.tanh(x @ made.features[name]) @ made.heads[name]
        scale = (signal / target[:, 0]).mean()
        exactly(target[:, 0], signal / scale)
        exactly(target, made.noiseless[name])


def test_signals_have_variance_1_and_the_noise_is_known():
    made = low_rank_mixtures(0, rows=20_000, noise=0.5)
    assert made.signals.var(0).sqrt().tolist() == pytest.approx([1] * 8, abs=0.05)
    assert made.noise.std(0).tolist() == pytest.approx([0.5] * 8, rel=0.03)
    assert set(made.least_loss.values()) == {0.25}


def overlap(bases: int) -> float:
    """The mean squared cosine between the first layers of different tasks, over seeds."""
    found = []
    for seed in range(200):
        layer = stacks(seed, bases)[0].flatten(0, 1)
        layer = layer / layer.norm(dim=0)
        cosines = (layer.T @ layer).square()
        found.append((cosines.sum() - 8) / 56)
    return float(torch.stack(found).mean())


def test_with_as_many_bases_as_tasks_the_layers_are_independent():
    # Independent normal vectors of 60 entries have a mean squared cosine of 1 / 60.
    assert overlap(8) == pytest.approx(1 / 60, rel=0.1)
    assert overlap(3) > 0.2


def test_the_first_tasks_are_the_bases_and_the_others_mix_them():
    layer = stacks(0, 3)[0].flatten(0, 1)
    bases, rest = layer[:, :3], layer[:, 3:]
    mixing = torch.linalg.lstsq(bases, rest).solution
    exactly(bases @ mixing, rest)
    assert bool((mixing > 0).all())
    exactly(mixing.norm(dim=0), torch.ones(5, dtype=torch.float64))


def test_rows_apart_carry_one_label_each_and_the_others_all():
    made = low_rank_mixtures(0, rows=30, tasks=4, apart=20)
    marks = torch.stack(list(made.data.labelled.values()), dim=1)
    assert marks[:20].sum(0).tolist() == [5] * 4
    assert marks[:20].sum(1).tolist() == [1] * 20
    assert bool(marks[20:].all())
    whole = low_rank_mixtures(0, rows=30, tasks=4)
    for name, own in made.noiseless.items():
        exactly(own, whole.noiseless[name][made.data.labelled[name]])


def test_entries_have_the_variance_of_the_docstring():
    drawn = torch.stack([stacks(seed, 3)[0] for seed in range(100)])
    assert float(drawn.var()) == pytest.approx(4 / 10, rel=0.05)


def equal(first: SyntheticDataset, second: SyntheticDataset, rows: int) -> None:
    exactly(first.data.inputs[:rows], second.data.inputs[:rows])
    for name, target in first.data.targets.items():
        exactly(target[:rows], second.data.targets[name][:rows])


def test_fewer_rows_are_the_first_of_more():
    equal(low_rank_mixtures(1, rows=10), low_rank_mixtures(1, rows=50), 10)
    assert not torch.equal(
        low_rank_mixtures(1, rows=10).data.inputs, low_rank_mixtures(2, rows=10).data.inputs
    )


def test_what_cannot_be_is_refused():
    with pytest.raises(UsageError, match="at most 4"):
        low_rank_mixtures(0, rows=10, tasks=4, bases=5)
    with pytest.raises(UsageError, match="some of the 10 rows"):
        low_rank_mixtures(0, rows=10, apart=11)
    with pytest.raises(UsageError, match="bases must be at least 1"):
        low_rank_mixtures(0, rows=10, bases=0)
    with pytest.raises(UsageError, match="noise"):
        low_rank_mixtures(0, rows=10, noise=-1.0)
