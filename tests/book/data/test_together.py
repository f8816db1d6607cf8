"""The data with all switches, one at a time."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch

from mtlbook.book.data.together import (
    Switches,
    main_and_other_tasks,
    switched,
    with_copies,
)
from mtlbook.errors import UsageError

ROWS = 4000


def errors(switches: Switches) -> dict[str, torch.Tensor]:
    made = main_and_other_tasks(0, switches, rows=ROWS)
    return {name: (made.data.targets[name] - clean)[:, 0] for name, clean in made.noiseless.items()}


def correlation(values: dict[str, torch.Tensor], first: str, second: str) -> float:
    return float(torch.corrcoef(torch.stack([values[first], values[second]]))[0, 1])


@pytest.mark.parametrize(("on", "expected"), [(True, 0.0), (False, 1.0)])
def test_noise_is_independent_or_the_same(on, expected):
    found = errors(Switches(independent_noise=on))
    for first, second in combinations(found, 2):
        assert correlation(found, first, second) == pytest.approx(expected, abs=0.06)
    assert float(found["main_1"].std()) == pytest.approx(0.5, abs=0.02)


def test_signals_have_variance_one_and_products_have_no_linear_part():
    made = main_and_other_tasks(1, Switches(plain_tasks=True, same_features=True), rows=ROWS)
    x = made.data.inputs
    for name, clean in made.noiseless.items():
        assert float(clean.std()) == pytest.approx(1, abs=0.06)
        left = clean - x @ torch.linalg.lstsq(x, clean).solution
        explained = 1 - float(left.square().sum() / clean.square().sum())
        # tanh is odd: a product of two is even in x, and so uncorrelated with every input.
        assert explained > 0.5 if name.startswith("other") else explained < 0.02


def test_irrelevant_inputs_come_behind_the_relevant_ones():
    without, among = (
        main_and_other_tasks(2, Switches(irrelevant_inputs=on), rows=50) for on in (False, True)
    )
    assert without.data.inputs.shape == (50, 6)
    assert among.data.inputs.shape == (50, 36)
    assert torch.equal(among.data.inputs[:, :6], without.data.inputs)
    assert torch.equal(among.data.targets["main_2"], without.data.targets["main_2"])


def test_features_are_common_or_the_task_s_own():
    same, own = (
        main_and_other_tasks(3, Switches(same_features=on), rows=5).features for on in (True, False)
    )
    assert all(torch.equal(same["main_1"], matrix) for matrix in same.values())
    for first, second in combinations(own.values(), 2):
        assert not torch.equal(first, second)


@pytest.mark.parametrize("switch", list(Switches.__annotations__))
def test_a_switch_leaves_the_main_tasks_signal_alone_unless_it_moves_features(switch):
    off, on = (
        main_and_other_tasks(4, replace(Switches(), **{switch: on}), rows=40)
        for on in (False, True)
    )
    same = torch.equal(off.noiseless["main_1"], on.noiseless["main_1"])
    assert same == (switch != "same_features")
    assert not (
        torch.equal(off.data.targets["other_1"], on.data.targets["other_1"])
        and off.data.inputs.shape == on.data.inputs.shape
    )


def test_fewer_rows_are_the_first_of_more():
    few, many = (
        main_and_other_tasks(5, Switches(independent_noise=True), rows=rows) for rows in (10, 25)
    )
    assert torch.equal(few.data.inputs, many.data.inputs[:10])
    assert torch.equal(few.data.targets["main_1"], many.data.targets["main_1"][:10])


def test_a_run_sets_the_switches_that_the_world_has():
    run = {"plain_tasks": True, "same_features": False, "penalty": True}
    assert switched(Switches(same_features=True), run) == Switches(plain_tasks=True)


def test_copies_carry_the_noise_of_the_task():
    made = main_and_other_tasks(0, Switches(independent_noise=True), rows=7)
    data = with_copies(made, "main_2", 2)
    assert [task.name for task in data.tasks] == ["main_2", "copy_1", "copy_2"]
    assert torch.equal(data.inputs, made.data.inputs)
    for target in data.targets.values():
        assert torch.equal(target, made.data.targets["main_2"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": 0}, "rows must be at least 1, not 0"),
        ({"rows": 3, "main": 0}, "main must be at least 1"),
        ({"rows": 3, "features": 1}, "features must be at least 2"),
        ({"rows": 3, "others": -1}, "others must be at least 0, not -1"),
    ],
)
def test_impossible_worlds_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        main_and_other_tasks(0, Switches(), **options)
