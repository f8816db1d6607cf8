"""Splits by groups: nothing is in two parts, and the parts have the sizes that were asked for."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.data.scaling import scaled
from mtlbook.data.splits import GroupHoldout, equal_inputs
from mtlbook.errors import UsageError
from mtlbook.tasks import Task


def with_repeats(sizes: list[int]) -> MultiTaskData:
    inputs = torch.repeat_interleave(torch.tensor(sizes)).double()[:, None]
    return MultiTaskData.multi_label([Task.regression("y")], inputs, {"y": inputs})


@given(repeats=st.lists(st.integers(1, 5), min_size=3, max_size=12), seed=st.integers(0, 50))
def test_no_input_is_in_two_parts_and_sizes_are_exact(repeats: list[int], seed: int):
    # Enough rows that occur once fill any part.
    data = with_repeats([*repeats, *[1] * 40])
    rows = len(data.inputs)
    split = GroupHoldout(train=0.5, validation=0.25, test=0.25, groups=equal_inputs(data.inputs))
    split = split.draw(data, seed)
    parts = [split.train, split.validation, split.test]
    assert [len(part) for part in parts] == [int(share * rows) for share in (0.5, 0.25, 0.25)]
    seen = [set(data.inputs[part, 0].tolist()) for part in parts]
    assert len(set.union(*seen)) == sum(map(len, seen))


def test_seeds_differ_and_repeat():
    data = with_repeats([3, 2, *[1] * 20])
    split = GroupHoldout(train=10, validation=5, test=5, groups=equal_inputs(data.inputs))
    assert torch.equal(split.draw(data, 0).test, split.draw(data, 0).test)
    assert not torch.equal(split.draw(data, 0).test, split.draw(data, 1).test)


def test_scaling_does_not_change_who_is_in_which_part():
    data = with_repeats([3, 2, *[1] * 20])
    split = GroupHoldout(train=10, validation=5, test=5, groups=equal_inputs(data.inputs))
    new = scaled(data, split, 0)
    assert torch.equal(split.draw(new, 0).train, split.draw(data, 0).train)


def test_groups_that_do_not_fit_are_refused():
    data = with_repeats([2] * 6)
    groups = equal_inputs(data.inputs)
    with pytest.raises(UsageError, match=r"3 rows cannot be filled .* 1 are left over"):
        GroupHoldout(train=4, validation=2, test=3, groups=groups).draw(data, 0)
    with pytest.raises(UsageError, match="groups of 3 rows, and the data 12 rows"):
        GroupHoldout(train=4, validation=2, test=3, groups=groups[:3]).draw(data, 0)
