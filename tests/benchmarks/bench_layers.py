"""Recurrent layers of many replicas at once against PyTorch's own layer, one replica at a time.

A step is a forward and a backward pass of a bidirectional layer over 16 padded sentences of 12
tokens. The ratio of processor times in one run is what counts:

    pytest tests/benchmarks/bench_layers.py -n 0 -s --jaxtyping-packages=
"""

import time
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

from mtlbook.layers.recurrent import GRU, LSTM

SENTENCES, TOKENS, WIDTH = 16, 12, 32


def seconds(step: Callable[[], object], repeats: int = 15) -> float:
    """Of processor time, of the quickest of several steps: other processes do not count."""
    taken = []
    for _ in range(repeats):
        began = time.process_time()
        step()
        taken.append(time.process_time() - began)
    return min(taken)


@pytest.mark.parametrize("masked", [False, True], ids=["full", "masked"])
@pytest.mark.parametrize("replicas", [16, 32])
@pytest.mark.parametrize(("ours", "theirs"), [(LSTM, nn.LSTM), (GRU, nn.GRU)], ids=["LSTM", "GRU"])
@pytest.mark.usefixtures("double")
def bench_bidirectional_layer(ours, theirs, replicas: int, masked: bool) -> None:
    torch.set_num_threads(1)
    loop = [theirs(WIDTH, WIDTH, bidirectional=True, batch_first=True) for _ in range(replicas)]
    layer = ours(WIDTH, WIDTH)
    weights, _ = stack_module_state(loop)
    inputs = torch.randn(replicas, SENTENCES, TOKENS, WIDTH)
    lengths = torch.randint(1, TOKENS + 1, (SENTENCES,)) if masked else torch.tensor([TOKENS])
    mask = torch.arange(TOKENS) < lengths.expand(SENTENCES)[:, None] if masked else None

    def one(own: dict, sequence: torch.Tensor) -> torch.Tensor:
        return functional_call(layer, own, (sequence, mask)).square().sum()

    def at_once() -> dict:
        return vmap(grad(one))(weights, inputs)

    def one_by_one() -> None:
        for network, sequence in zip(loop, inputs, strict=True):
            states = sequence
            if masked:
                states = nn.utils.rnn.pack_padded_sequence(
                    sequence, lengths, batch_first=True, enforce_sorted=False
                )
            found = network(states)[0]
            (found.data if masked else found).square().sum().backward()

    alone, together = seconds(one_by_one), seconds(at_once)
    print(
        f"\n{ours.__name__}, {replicas} replicas, {'masked' if masked else 'full'}: one by one "
        f"{1000 * alone:.1f} ms, at once {1000 * together:.1f} ms, ratio {alone / together:.2f}"
    )
