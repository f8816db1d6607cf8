"""Recurrent layers against PyTorch's own, packed sequences, one direction alone, and vmap."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mtlbook.errors import UsageError
from mtlbook.layers.recurrent import GRU, LSTM
from tests.equal import exactly

PAIRS = pytest.mark.parametrize(
    ("ours", "theirs"), [(LSTM, nn.LSTM), (GRU, nn.GRU)], ids=["LSTM", "GRU"]
)
LENGTHS = torch.tensor([7, 3, 1, 5])
MASK = torch.arange(7) < LENGTHS[:, None]

pytestmark = pytest.mark.usefixtures("double")


def packed(network: nn.Module, sequence: Tensor) -> Tensor:
    """PyTorch's own way to skip the padding at the end."""
    given = pack_padded_sequence(sequence, LENGTHS, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(network(given)[0], batch_first=True, total_length=7)[0]


@PAIRS
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_values_and_gradients_are_those_of_pytorch(ours, theirs, layers, bidirectional, masked):
    reference = theirs(5, 8, layers, bidirectional=bidirectional, batch_first=True)
    network = ours(5, 8, layers, bidirectional=bidirectional)
    network.load_state_dict(reference.state_dict())
    sequence = torch.randn(4, 7, 5, requires_grad=True)
    again = sequence.detach().clone().requires_grad_()
    expected = packed(reference, again) if masked else reference(again)[0]
    states = network(sequence, MASK if masked else None)
    exactly(states, expected)
    towards = torch.randn_like(expected)
    (states * towards).sum().backward()
    (expected * towards).sum().backward()
    exactly(sequence.grad, again.grad)
    grads = {name: values.grad for name, values in network.named_parameters()}
    for name, values in reference.named_parameters():
        exactly(grads[name], values.grad)


@PAIRS
@pytest.mark.parametrize("masked", [False, True])
def test_separate_directions_are_two_networks_of_one_direction(ours, theirs, masked):
    network = ours(5, 8, 3, separate=True)
    stacks = []
    for end in ("", "_reverse"):
        stack = theirs(5, 8, 3, batch_first=True)
        own = {name: network.state_dict()[name + end] for name in stack.state_dict()}
        stack.load_state_dict(own)
        stacks.append(stack)
    sequence, lengths = torch.randn(4, 7, 5), LENGTHS if masked else torch.full((4,), 7)
    states = network(sequence, MASK if masked else None)
    for row, length in enumerate(lengths):
        own = sequence[row : row + 1, :length]
        forward, backward = stacks[0](own)[0], stacks[1](own.flip(1))[0].flip(1)
        exactly(states[row, :length], torch.cat([forward, backward], -1)[0])
        assert not states[row, length:].any()


@PAIRS
def test_only_separate_directions_never_see_the_other_side(ours, theirs):
    sequence = torch.randn(1, 7, 5)
    changed = sequence.clone()
    changed[0, 4] += 1
    for separate in (True, False):
        network = ours(5, 8, 2, separate=separate)
        moved = (network(sequence) != network(changed))[0]
        assert bool(moved[:4, :8].any()) is not separate
        assert bool(moved[5:, 8:].any()) is not separate
        assert moved[4:, :8].any()
        assert moved[:5, 8:].any()


@PAIRS
def test_masked_positions_are_skipped_wherever_they_stand(ours, theirs):
    mask = torch.tensor([[False, True, True, False, True, False, True]])
    sequence, network = torch.randn(1, 7, 5), ours(5, 8, 2)
    states = network(sequence, mask)
    exactly(states[:, mask[0]], network(sequence[:, mask[0]]))
    assert not states[:, ~mask[0]].any()


@PAIRS
def test_padding_changes_no_value_and_no_gradient(ours, theirs):
    network, sequence = ours(5, 8, 2), torch.randn(4, 7, 5)
    other = torch.where(MASK[:, :, None], sequence, 1e3 * torch.randn(4, 7, 5))
    found = []
    for given in (sequence, other):
        network.zero_grad()
        network(given, MASK).square().sum().backward()
        found.append([values.grad.clone() for values in network.parameters()])
    exactly(network(sequence, MASK), network(other, MASK))
    for one, another in zip(*found, strict=True):
        exactly(one, another)


@PAIRS
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("separate", [False, True])
def test_replicas_at_once_are_those_one_by_one(ours, theirs, separate, masked):
    replicas = [ours(5, 8, 2, separate=separate) for _ in range(3)]
    sequences, mask = torch.randn(3, 4, 7, 5), MASK if masked else None
    weights, _ = stack_module_state(replicas)  # pyright: ignore[reportArgumentType]

    def states(own: dict[str, Tensor], sequence: Tensor) -> Tensor:
        return functional_call(replicas[0], own, (sequence, mask))

    together = vmap(states)(weights, sequences)
    together.square().sum().backward()  # as `fit` does: the gradient of all at once
    inside = vmap(grad(lambda own, x: states(own, x).square().sum()))(weights, sequences)
    for number, network in enumerate(replicas):
        alone = network(sequences[number], mask)
        exactly(together[number], alone)
        alone.square().sum().backward()
        for name, values in network.named_parameters():
            exactly(weights[name].grad[number], values.grad)
            exactly(inside[name][number], values.grad)


@PAIRS
def test_weights_are_drawn_as_pytorch_draws_them(ours, theirs):
    drawn = []
    for make in (ours, theirs):
        torch.manual_seed(3)
        drawn.append(make(5, 8, 2, bidirectional=True).state_dict())
    assert list(drawn[0]) == list(drawn[1])
    for name, values in drawn[0].items():
        exactly(values, drawn[1][name])


@pytest.mark.parametrize("sizes", [(0, 8, 1), (5, 0, 1), (5, 8, 0)])
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(UsageError, match="give at least one of each"):
        LSTM(*sizes)
