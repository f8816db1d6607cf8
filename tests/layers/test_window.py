"""The window network against PyTorch's convolution, what it sees, and vmap."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

from mtlbook.errors import UsageError
from mtlbook.layers.window import Window
from tests.equal import exactly

LENGTHS = torch.tensor([9, 3, 0, 6])
MASK = torch.arange(9) < LENGTHS[:, None]

pytestmark = pytest.mark.usefixtures("double")


@pytest.mark.parametrize("reach", [0, 1, 2])
def test_a_layer_is_a_convolution(reach):
    window, sequence = Window(5, 8, 2, reach=reach), torch.randn(4, 9, 5)
    expected = sequence.mT
    for layer in window.layers:
        assert isinstance(layer, nn.Linear)
        kernel = layer.weight.unflatten(1, (2 * reach + 1, -1)).movedim(1, 2)
        expected = F.conv1d(expected, kernel, layer.bias, padding=reach).tanh()
    exactly(window(sequence), expected.mT)


@pytest.mark.parametrize(("layers", "reach"), [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2)])
def test_a_position_sees_as_many_neighbours_as_the_layers_reach(layers, reach):
    sequence = torch.randn(1, 15, 5, requires_grad=True)
    Window(5, 8, layers, reach=reach)(sequence)[0, 7].sum().backward()
    assert sequence.grad is not None
    seen = torch.nonzero(sequence.grad[0].any(1))[:, 0]
    assert seen.tolist() == list(range(7 - layers * reach, 7 + layers * reach + 1))


def test_a_padded_sequence_is_the_sequence_alone():
    window, sequence = Window(5, 8, 3), 1e3 * torch.randn(4, 9, 5)
    states = window(sequence, MASK)
    for row, length in enumerate(LENGTHS):
        if length:
            exactly(states[row, :length], window(sequence[row : row + 1, :length])[0])
        assert not states[row, length:].any()


@pytest.mark.parametrize("mask", [None, MASK])
def test_replicas_at_once_are_those_one_by_one(mask):
    replicas = [Window(5, 8, 2) for _ in range(3)]
    sequences = torch.randn(3, 4, 9, 5)
    weights, _ = stack_module_state(replicas)  # pyright: ignore[reportArgumentType]
    together = vmap(lambda own, x: functional_call(replicas[0], own, (x, mask)))(weights, sequences)
    together.square().sum().backward()
    for number, network in enumerate(replicas):
        alone = network(sequences[number], mask)
        exactly(together[number], alone)
        alone.square().sum().backward()
        for name, values in network.named_parameters():
            exactly(weights[name].grad[number], values.grad)


@pytest.mark.parametrize("sizes", [(0, 8, 1, 1), (5, 0, 1, 1), (5, 8, 0, 1), (5, 8, 1, -1)])
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(UsageError, match="a reach of 0 or more"):
        Window(*sizes[:3], reach=sizes[3])
