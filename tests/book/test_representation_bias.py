"""Wells, digits and Baxter's curve against what is known by construction or in closed form."""

from functools import partial
from itertools import combinations

import numpy as np
import pytest
import torch

from mtlbook.book.experiments.networks import mlp
from mtlbook.book.experiments.representation_bias import (
    ENVIRONMENTS,
    TEST,
    VALIDATION,
    descend,
    digit_environment,
    directions_seen,
    double_well,
    head_error,
    learnt_by,
    new_tasks,
    start_branches,
    wells,
)
from mtlbook.book.page import Page
from mtlbook.book.parameters import OneOf
from mtlbook.data import embedded
from mtlbook.errors import UsageError


def test_the_sum_of_two_wells_has_the_common_minimum_alone():
    # As a polynomial: the only real zero of the derivative is 1, and it is a minimum.
    one = np.polynomial.Polynomial([1, 0, -2, 0, 1])
    both = one + one(np.polynomial.Polynomial([-2, 1]))
    zeros = both.deriv().roots()
    real = zeros[np.abs(zeros.imag) < 1e-6].real
    np.testing.assert_allclose(real, 1, atol=1e-6)
    grid = torch.linspace(-2, 4, 50, dtype=torch.float64)
    total = double_well(grid, 0.0) + double_well(grid, 2.0)
    np.testing.assert_allclose(total.numpy(), both(grid.numpy()), atol=1e-10)


def test_descent_ends_in_the_minima():
    starts = torch.linspace(-1.5, 3.5, 40, dtype=torch.float64)
    alone = descend(starts, [0.0])
    # The wells' watershed lies at the centre.
    expected = torch.where(starts > 0, 1.0, -1.0).double()
    torch.testing.assert_close(alone, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        descend(starts, [0.0, 2.0]), torch.ones(40, dtype=torch.float64), atol=1e-4, rtol=0
    )
    assert torch.equal(starts, torch.linspace(-1.5, 3.5, 40, dtype=torch.float64))


def test_descent_follows_the_gradient():
    theta = torch.tensor([0.3, 2.7], dtype=torch.float64, requires_grad=True)
    (double_well(theta, 0.0) + double_well(theta, 2.0)).sum().backward()
    assert theta.grad is not None
    stepped = descend(theta.detach(), [0.0, 2.0], steps=1, step_size=0.01)
    torch.testing.assert_close(stepped, theta.detach() - 0.01 * theta.grad)


def test_the_wells_of_a_figure_are_the_losses():
    losses, ends = {"one": [0.0], "both": [0.0, 2.0]}, {"one": torch.tensor([1.0, -1.0])}
    points, curves = wells(losses, ends)
    assert points["θ"].tolist() == [1.0, -1.0]
    assert points.loss.tolist() == [0.0, 0.0]
    both = curves[curves.of == "both"]
    theta = torch.tensor(np.asarray(both["θ"]))
    expected = double_well(theta, 0.0) + double_well(theta, 2.0)
    np.testing.assert_allclose(both.loss, expected.numpy())
    assert curves.loss.max() < 8


def test_every_task_of_the_digits_parts_them_in_five_and_five():
    data = digit_environment(0, tasks=range(126), images=range(1797))
    labels = digits_of(data.inputs)
    groups = set()
    for target in data.targets.values():
        positive = labels[target[:, 0] > 0].unique()
        assert len(positive) == 5
        assert 0 in positive
        assert set(target.unique().tolist()) == {-1.0, 1.0}
        groups.add(tuple(positive.tolist()))
    assert groups == {(0, *others) for others in combinations(range(1, 10), 4)}


def digits_of(inputs):
    """The digit that each image shows, looked up among all images."""
    known = embedded.digits("digit")
    by_pixels = {
        image.numpy().tobytes(): int(digit)
        for image, digit in zip(known.inputs, known.targets["digit"], strict=True)
    }
    return torch.tensor([by_pixels[image.numpy().tobytes()] for image in inputs])


def test_parts_of_the_images_are_disjoint_and_tasks_keep_their_names():
    both = digit_environment(4, tasks=range(3), images=range(10))
    later = digit_environment(4, tasks=range(2, 3), images=range(6, 10))
    assert torch.equal(both.inputs[6:], later.inputs)
    assert torch.equal(both.targets["groups_2"][6:], later.targets["groups_2"])
    assert list(later.targets) == ["groups_2"]


def test_each_seed_shuffles_images_and_tasks():
    whole = embedded.digits("digit").inputs
    one, other = (digit_environment(s, tasks=range(126), images=range(1797)) for s in (0, 1))
    assert not torch.equal(one.inputs, whole)
    assert not torch.equal(one.inputs, other.inputs)
    for data in (one, other):
        assert sorted(data.inputs.tolist()) == sorted(whole.tolist())
    groups = [
        [digits_of(d.inputs[t[:, 0] > 0]).unique().tolist() for t in list(d.targets.values())[:5]]
        for d in (one, other)
    ]
    assert groups[0] != groups[1]


@pytest.mark.parametrize("in_place", [0.0, 0.5, 1.0])
def test_a_share_of_the_pixels_keeps_its_place(in_place):
    plain = digit_environment(0, tasks=range(1), images=range(300)).inputs
    moved = digit_environment(0, tasks=range(1), images=range(300), in_place=in_place).inputs
    # The same values in other columns; some pixels are blank in all images.
    assert torch.equal(plain.sort(1).values, moved.sort(1).values)
    shown = plain.std(0) > 0
    kept = (plain == moved).all(0)[shown].double().mean()
    assert float(kept) == pytest.approx(in_place, abs=0.12)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tasks": range(127)}, "task of 0 to 125"),
        ({"images": range(0)}, "at least one image"),
        ({"images": range(1790, 1800)}, "1797 images"),
        ({"in_place": -0.1}, "a share"),
    ],
)
def test_impossible_digits_are_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        digit_environment(0, **{"tasks": range(1), "images": range(5)} | wrong)


@pytest.fixture
def page(monkeypatch, tmp_path):
    monkeypatch.setenv("MTLBOOK_OUTPUT", str(tmp_path))
    notebook = {"seeds": 3, "first_seed": 0, "device": "cpu", "dataset": "digits"}
    return Page("4.4", notebook, dataset=OneOf("digits"))


@pytest.mark.parametrize("env", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_more_examples_change_neither_validation_nor_test(env):
    few, more = (new_tasks(env, 3, n, most=32) for n in (8, 32))
    assert few.rows == 8 + VALIDATION + TEST
    rest = VALIDATION + TEST
    assert torch.equal(few.inputs[:8], more.inputs[:8])
    assert torch.equal(few.inputs[-rest:], more.inputs[-rest:])
    for task in few.tasks:
        assert torch.equal(few.targets[task.name][-rest:], more.targets[task.name][-rest:])


@pytest.mark.parametrize("env", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_sources_of_another_environment_look_different_and_new_tasks_do_not(env):
    here, away = (env.sources(0, 4, 20, share) for share in (1.0, 0.0))
    assert here.targets["sources"].shape == away.targets["sources"].shape == (20, 4)
    assert not (
        torch.equal(here.inputs, away.inputs)
        and torch.equal(here.targets["sources"], away.targets["sources"])
    )


def test_a_layer_of_many_tasks_helps_and_one_of_another_environment_does_not(page):
    env = ENVIRONMENTS["environment"]

    def error(count, share=1.0):
        layer = learnt_by(page, env, count, share)
        data = partial(new_tasks, env, examples=32, most=32)
        return head_error(data, layer, page.seeds, 32, [0.01, 0.1, 1.0])

    assert (directions_seen(learnt_by(page, env, 16), page.seeds) > 0.8).all()
    assert (directions_seen(learnt_by(page, env, 16, 0.0), page.seeds) < 0.2).all()
    many = error(16)
    assert many.shape == (3,)
    assert 0.25 < many.mean() < 0.6 < 0.9 < error(16, 0.0).mean()


def test_a_network_starts_every_branch_from_its_seeds_trunk(page):
    env = ENVIRONMENTS["environment"]
    layer = learnt_by(page, env, 2, width=5)
    model = mlp(new_tasks(env, 1, 8, 8), 1, width=5, branch_at=0)
    start_branches(layer)(model, 1)
    learnt = layer.model(1).get_parameter("trunk.0.0.weight").float()
    for name in ("new_1", "new_2"):
        assert torch.equal(model.get_parameter(f"branches.{name}.0.0.weight"), learnt)
