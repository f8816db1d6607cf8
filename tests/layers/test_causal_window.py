import pytest
import torch

from mtlbook.errors import UsageError
from mtlbook.layers.causal_window import CausalWindow
from mtlbook.randomness import generator, standard_normal


def sequence(purpose: str, *shape: int) -> torch.Tensor:
    return standard_normal(generator(0, purpose), *shape)


@pytest.fixture
def reader() -> CausalWindow:
    torch.manual_seed(0)
    return CausalWindow(5, 4, layers=2, reach=2).double()


def test_each_direction_is_the_loop_over_positions_written_out(reader):
    x = sequence("x", 2, 7, 5)
    states = reader(x)
    before, after = x, x
    for ahead, back in zip(reader.forwards, reader.backwards, strict=True):
        zero = torch.zeros_like(before[:, 0]), torch.zeros_like(after[:, 0])

        def at(values, place, empty):
            return values[:, place] if 0 <= place < 7 else empty

        seen = [
            torch.cat([at(before, t + shift, zero[0]) for shift in (-2, -1, 0)], 1)
            for t in range(7)
        ]
        seen_back = [
            torch.cat([at(after, t + shift, zero[1]) for shift in (0, 1, 2)], 1) for t in range(7)
        ]
        before = torch.stack([ahead(own).tanh() for own in seen], 1)
        after = torch.stack([back(own).tanh() for own in seen_back], 1)
    torch.testing.assert_close(states, torch.cat([before, after], -1), atol=1e-12, rtol=0)


@pytest.mark.parametrize("place", range(6))
def test_no_direction_sees_the_other_side(reader, place):
    x = sequence("x", 3, 7, 5)
    later, earlier = x.clone(), x.clone()
    later[:, place + 1 :] += 1
    earlier[:, : place + 1] += 1
    states = reader(x)
    assert torch.equal(reader(later)[:, : place + 1, :4], states[:, : place + 1, :4])
    assert torch.equal(reader(earlier)[:, place + 1 :, 4:], states[:, place + 1 :, 4:])
    assert not torch.equal(reader(later)[:, place, 4:], states[:, place, 4:])


def test_padding_changes_nothing_and_has_the_state_0(reader):
    x = sequence("x", 2, 7, 5)
    mask = torch.arange(7) < torch.tensor([[7], [4]])
    other = torch.where(mask.unsqueeze(-1), x, 9.0)
    assert torch.equal(reader(x, mask), reader(other, mask))
    torch.testing.assert_close(reader(x, mask)[1, :4], reader(x[1:, :4])[0])
    assert reader(x, mask)[1, 4:].eq(0).all()


@pytest.mark.parametrize("bad", [{"units": 0}, {"layers": 0}, {"reach": -1}, {"inputs": 0}])
def test_an_impossible_size_is_refused(bad):
    sizes = {"inputs": 3, "units": 4} | bad
    with pytest.raises(UsageError, match="at least one of each"):
        CausalWindow(**sizes)
