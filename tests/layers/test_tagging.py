import pytest
import torch
from torch import nn

from mtlbook.layers.recurrent import LSTM
from mtlbook.layers.tagging import Masked, TagHead, Words
from mtlbook.layers.window import Window
from mtlbook.randomness import generator

pytestmark = pytest.mark.usefixtures("double")


def tokens(rows: int, length: int, columns: int) -> torch.Tensor:
    return torch.randint(1, 9, (rows, length, columns), generator=generator(0, "tokens"))


@pytest.mark.parametrize("layer", [Window, LSTM])
def test_padding_changes_nothing_and_what_stands_there_is_not_read(layer):
    wide = 10 if layer is LSTM else 5
    network = nn.Sequential(
        Words(9, 4), Masked(layer(4, 5)), Masked(layer(wide, 5)), TagHead(wide, 3)
    )
    words = tokens(3, 6, 2)
    mask = torch.ones(3, 6, dtype=torch.bool)
    plain = network({"tokens": words, "mask": mask})
    longer = torch.cat([words, tokens(3, 4, 2)], dim=1)
    padded = network({"tokens": longer, "mask": torch.arange(10).expand(3, -1) < 6})
    torch.testing.assert_close(padded[:, :, :6], plain, rtol=1e-12, atol=1e-13)


def test_a_token_is_the_sum_of_its_columns_vectors():
    words = Words(9, 4)
    own = tokens(2, 5, 3)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]).bool()
    states = words({"tokens": own, "mask": mask})["states"]
    for row in range(2):
        for place in range(5):
            parts = [words.vectors.weight[number] for number in own[row, place]]
            expected = sum(parts) if mask[row, place] else torch.zeros(4)
            torch.testing.assert_close(states[row, place], expected)


def test_the_head_is_linear_at_each_position():
    head = TagHead(4, 3)
    states = torch.randn(2, 5, 4, generator=generator(0, "states"))
    logits = head({"states": states})
    torch.testing.assert_close(logits[1, :, 2], head.linear(states[1, 2]))
