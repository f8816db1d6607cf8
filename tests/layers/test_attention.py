"""Self-attention against PyTorch's own, padded sequences, and vmap."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from mtlbook.errors import UsageError
from mtlbook.layers.attention import SelfAttention
from tests.equal import exactly

LENGTHS = torch.tensor([7, 3, 1, 5])
MASK = torch.arange(7) < LENGTHS[:, None]

pytestmark = pytest.mark.usefixtures("double")


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("masked", [False, True])
def test_values_and_gradients_are_those_of_pytorch(heads, masked):
    reference = nn.MultiheadAttention(8, heads, batch_first=True)
    nn.init.normal_(reference.in_proj_bias)
    attention = SelfAttention(8, heads)
    attention.load_state_dict(reference.state_dict())
    sequence = torch.randn(4, 7, 8)
    known = MASK if masked else torch.ones_like(MASK)
    expected = reference(sequence, sequence, sequence, key_padding_mask=~known)[0][known]
    found = attention(sequence, MASK if masked else None)
    assert not found[~known].any()
    exactly(found[known], expected)
    towards = torch.randn_like(expected)
    (found[known] * towards).sum().backward()
    (expected * towards).sum().backward()
    grads = {name: values.grad for name, values in attention.named_parameters()}
    for name, values in reference.named_parameters():
        exactly(grads[name], values.grad)


def test_padding_changes_nothing():
    attention, sequence = SelfAttention(8, 2), torch.randn(4, 7, 8)
    found = attention(sequence, MASK)
    for row, length in enumerate(LENGTHS):
        exactly(found[row, :length], attention(sequence[row : row + 1, :length])[0])


def test_an_example_of_padding_alone_is_zero_with_finite_gradients():
    attention = SelfAttention(8, 2)
    found = attention(torch.randn(2, 3, 8), torch.tensor([[True] * 3, [False] * 3]))
    assert not found[1].any()
    found.square().sum().backward()
    for values in attention.parameters():
        assert values.grad is not None
        assert values.grad.isfinite().all()


def test_attention_does_not_see_the_order():
    attention, sequence, order = SelfAttention(8, 2), torch.randn(1, 7, 8), torch.randperm(7)
    exactly(attention(sequence[:, order]), attention(sequence)[:, order])


@pytest.mark.parametrize("mask", [None, MASK])
def test_replicas_at_once_are_those_one_by_one(mask):
    replicas = [SelfAttention(8, 2) for _ in range(3)]
    sequences = torch.randn(3, 4, 7, 8)
    weights, _ = stack_module_state(replicas)  # pyright: ignore[reportArgumentType]
    together = vmap(lambda own, x: functional_call(replicas[0], own, (x, mask)))(weights, sequences)
    together.square().sum().backward()
    for number, network in enumerate(replicas):
        alone = network(sequences[number], mask)
        exactly(together[number], alone)
        alone.square().sum().backward()
        for name, values in network.named_parameters():
            exactly(weights[name].grad[number], values.grad)


def test_weights_are_drawn_as_pytorch_draws_them():
    drawn = []
    for make in (SelfAttention, nn.MultiheadAttention):
        torch.manual_seed(3)
        drawn.append(make(8, 2).state_dict())
    exactly(drawn[0]["in_proj_weight"], drawn[1]["in_proj_weight"])
    for name in ("in_proj_bias", "out_proj.bias"):
        exactly(drawn[0][name], drawn[1][name])


@pytest.mark.parametrize(("width", "heads"), [(8, 3), (0, 1), (8, 0)])
def test_heads_must_divide_the_width(width, heads):
    with pytest.raises(UsageError, match="do not divide a width"):
        SelfAttention(width, heads)
