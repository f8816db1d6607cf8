"""The league's statistics, on results whose answers are known."""

import numpy as np
import pandas as pd
import pytest

from mtlbook.book.experiments.league_results import (
    Results,
    hierarchical_draws,
    over_worlds,
    read,
)
from mtlbook.book.experiments.league_worlds import WORLDS
from mtlbook.book.studies import Record

METHODS = ("single-task", "hard sharing", "cross-stitch", "MMoE")
NAMES = ("same features", "10 : 1 labels", "digit domains")
SEEDS = 8


def made(levels: np.ndarray, noise: float = 0.0, tasks: int = 2) -> Results:
    """Results with the losses `levels` (methods × worlds), and noise that each seed adds."""
    source = np.random.default_rng(0)
    shape = (len(METHODS), SEEDS, tasks)
    losses = {
        name: levels[:, place, None, None] * np.ones(shape) + noise * source.normal(size=shape)
        for place, name in enumerate(NAMES)
    }
    relative = {name: own.mean(-1) / own[0].mean() for name, own in losses.items()}
    costs = {"training": {name: np.array([1.0, 0.5, 2.0, 4.0]) for name in NAMES}}
    costs |= dict.fromkeys(["parameters", "inference"], costs["training"])
    worlds = {name: WORLDS[name]() for name in NAMES}
    return Results(
        METHODS,
        losses,
        relative,
        {name: levels[:, place] for place, name in enumerate(NAMES)},
        costs,
        {name: own.homes for name, own in worlds.items()},
        [name for name, own in worlds.items() if own.real],
    )


LEVELS = np.array([[1.0, 1.0, 1.0], [0.5, 1.2, 0.9], [0.8, 0.6, 1.1], [0.9, 0.7, 0.95]])


def test_improvements_are_relative_to_single_task_networks():
    found = made(2 * LEVELS)
    assert found.improvements.mean(-1) == pytest.approx(100 * (1 - LEVELS))
    assert found.effect("hard sharing", "same features").estimate == pytest.approx(50.0)
    against = found.effect("cross-stitch", "digit domains", "hard sharing")
    assert against.estimate == pytest.approx(100 * (1 - 1.1 / 0.9))


def test_a_methods_home_is_left_out_of_its_means():
    found = made(LEVELS)
    means = dict(zip(METHODS, found.mean_improvement(), strict=True))
    assert means["hard sharing"].estimate == pytest.approx(-5.0)  # not in "same features"
    assert means["cross-stitch"].estimate == pytest.approx(5.0)  # not in "10 : 1 labels"
    assert means["MMoE"].estimate == pytest.approx((10 + 30 + 5) / 3)  # at home in none of them
    ranks = dict(zip(METHODS, found.mean_rank(), strict=True))
    assert ranks["hard sharing"].estimate == pytest.approx((4 + 1) / 2)
    assert ranks["cross-stitch"].estimate == pytest.approx((2 + 4) / 2)
    assert ranks["single-task"].estimate == pytest.approx((4 + 3 + 3) / 3)


def test_without_noise_only_the_worlds_spread():
    found = made(LEVELS).mean_improvement()[3]
    assert (found.low, found.high) == pytest.approx((5.0, 30.0), abs=1.0)
    same = made(np.ones_like(LEVELS)).mean_improvement()[3]
    assert (same.low, same.high) == pytest.approx((0.0, 0.0))


def test_noise_widens_what_worlds_leave():
    levels = np.repeat(LEVELS[:, :1], 3, axis=1)
    found = [made(levels, noise).mean_improvement()[3] for noise in (0.01, 0.1)]
    widths = [own.high - own.low for own in found]
    assert widths[1] > 5 * widths[0] > 0
    # In percent: a difference of two means over 2 tasks has the standard deviation 1 in a seed;
    # 24 seeds are drawn, and the 3 worlds' own means, of whose variance 2/3 is resampled.
    expected = (1 / 24 + 2 / 3 / 24) ** 0.5
    assert widths[0] == pytest.approx(2 * 1.96 * expected, rel=0.3)


def test_single_task_networks_improve_on_themselves_by_nothing():
    found = made(LEVELS, noise=0.1).mean_improvement()[0]
    assert (found.estimate, found.low, found.high) == (0.0, 0.0, 0.0)


def test_draws_are_worlds_first_and_then_their_seeds():
    values = np.zeros((1, 3, 4))
    values[0] = np.arange(3)[:, None] * 100 + np.arange(4)
    found, drawn = hierarchical_draws(values, draws=500)
    assert np.array_equal(found[:, 0] // 100, drawn)
    within = found[:, 0] - 100 * drawn
    assert within.mean() == pytest.approx(1.5, abs=0.05)
    assert within.std() == pytest.approx((1.25 / 4) ** 0.5, rel=0.1)
    assert np.bincount(drawn.flatten()) / 1500 == pytest.approx([1 / 3] * 3, abs=0.05)


def test_differences_are_paired_within_a_draw():
    levels = np.array([[1.0, 1.0, 1.0], [0.5, 0.7, 0.9], [0.4, 0.6, 0.8], [0.4, 0.6, 0.8]])
    difference = made(levels).mean_difference("hard sharing")[3]
    assert (difference.low, difference.high) == pytest.approx((10.0, 10.0))
    assert difference.p == 0.0


def test_a_difference_leaves_out_both_homes():
    differences = made(LEVELS).mean_difference("hard sharing")
    # MMoE is at home nowhere here, hard sharing in the first world.
    assert differences[3].estimate == pytest.approx((50 - 5) / 2)
    assert differences[2].estimate == pytest.approx(-20.0)


def test_harm_costs_and_the_probability_of_improvement():
    found = made(LEVELS)
    assert found.harmed() == pytest.approx([0, 1 / 3, 1 / 3, 0])
    assert found.improved() == pytest.approx([0, 2 / 3, 2 / 3, 1])
    assert found.worst_task() == pytest.approx([0, -20, -10, 5])
    assert found.cost("training") == pytest.approx([1, 0.5, 2, 4])
    table = found.table()
    assert table["method"].iloc[0] == "MMoE"
    assert table["mean rank"].iloc[0].startswith("2.3 [")


def test_the_learned_method_is_chosen_on_validation_data():
    found = made(LEVELS)
    assert found.learned == ("cross-stitch", "MMoE")
    assert found.best_learned("same features") == "cross-stitch"
    assert found.best_learned("digit domains") == "MMoE"


def test_a_record_is_read_as_it_was_written():
    found = made(LEVELS, noise=0.05)
    rows = []
    for world, losses in found.losses.items():
        for place, method in enumerate(METHODS):
            about = {"world": world, "method": method}
            for seed in range(SEEDS):
                rows += [
                    about | {"seed": seed, "task": task, "metric": "loss", "value": value}
                    for task, value in zip("zy", losses[place, seed], strict=True)
                ]
                value = found.equal_flops[world][place, seed]
                metric = "loss at equal FLOPs"
                rows.append(about | {"seed": seed, "task": "all", "metric": metric, "value": value})
            numbers = {"validation": found.validation[world][place]}
            numbers |= {name: own[world][place] for name, own in found.costs.items()}
            rows += [
                about | {"seed": 0, "task": "all", "metric": metric, "value": value}
                for metric, value in numbers.items()
            ]
    frame = pd.DataFrame(rows).sample(frac=1.0, random_state=0)
    first = frame.sort_values("method", key=lambda own: own.map(METHODS.index), kind="stable")
    record = Record("league", "6.9", list(range(SEEDS)), {}, {}, first.to_dict("records"))
    again = read(record)
    assert again.methods == METHODS
    for world in NAMES:
        expected = np.sort(found.losses[world].mean(-1))
        np.testing.assert_allclose(np.sort(again.losses[world].mean(-1)), expected)
        np.testing.assert_allclose(again.equal_flops[world], found.equal_flops[world])
        np.testing.assert_allclose(again.validation[world], found.validation[world])
        np.testing.assert_allclose(again.costs["training"][world], [1.0, 0.5, 2.0, 4.0])
    assert set(again.real) == {"digit domains"}
    assert over_worlds(record, again).seeds == [0, 1, 2]
