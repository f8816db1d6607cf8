import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtlbook.errors import UsageError
from mtlbook.training.minibatches import Minibatches

ROWS = [torch.arange(10), torch.arange(100, 110)]


@given(rows=st.integers(1, 30), size=st.integers(1, 40), seed=st.integers(0, 99))
def test_a_pass_visits_no_row_twice(rows, size, seed):
    stream = Minibatches([torch.arange(rows)], size, [seed], "any")
    batches = rows // stream.size
    visited = stream.take(batches).flatten().tolist()
    assert len(set(visited)) == len(visited) == batches * min(size, rows)
    assert set(visited) <= set(range(rows))


@given(st.lists(st.integers(0, 7), max_size=6))
def test_batches_do_not_depend_on_how_many_are_taken_at_a_time(takes):
    at_once = Minibatches(ROWS, 3, [0, 1], "any").take(sum(takes))
    piecewise = Minibatches(ROWS, 3, [0, 1], "any")
    pieces = [piecewise.take(steps) for steps in takes]
    assert torch.equal(torch.cat([at_once[:0], *pieces]), at_once)


def test_seeds_and_streams_have_orders_of_their_own():
    both = Minibatches(ROWS, 4, [0, 1], "any").take(6)
    alone = Minibatches(ROWS[1:], 4, [1], "any").take(6)
    assert torch.equal(both[:, 1:], alone)
    assert not torch.equal(both[:, 0], both[:, 1] - 100)
    assert not torch.equal(both, Minibatches(ROWS, 4, [0, 1], "another").take(6))


def test_passes_differ_and_whole_batches_do_not():
    stream = Minibatches(ROWS, 5, [0, 1], "any")
    assert not torch.equal(stream.take(2), stream.take(2))
    whole = Minibatches(ROWS, None, [0, 1], "any").take(3)
    assert torch.equal(whole, torch.stack(ROWS).expand(3, -1, -1))


def test_seeds_with_different_numbers_of_rows_are_refused():
    with pytest.raises(UsageError, match=r"different numbers of training rows \(\[2, 3\]\)"):
        Minibatches([torch.arange(2), torch.arange(3)], 2, [0, 1], "any")
