"""Padded sequences on their way through a stack: what turns words into states and states into tags.

A network whose stages pass on `{"states", "mask"}` never mixes padding with words, in any stack of
stages: `nn.Sequential`, `HardSharing`, `LowSupervision`.
"""

from collections.abc import Mapping

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

# `states`, (examples, length, features), and `mask`, (examples, length).
States = Mapping[str, Tensor]


class Words(nn.Module):
    """A vector for each token: the sum of those of its columns, 0 outside the mask.

    Takes `{"tokens", "mask"}` and gives `{"states", "mask"}`. With one column this is a table of
    word vectors; further columns (a suffix, a shape) have numbers of their own in the same table.

    Arguments:
        vocabulary: numbers that a token can have, 0 for padding included.
        width: of the vectors.

    Example:
        >>> import torch
        >>> tokens = torch.tensor([[[1], [2], [0]]])
        >>> Words(5, 8)({"tokens": tokens, "mask": tokens[..., 0] > 0})["states"].shape
        torch.Size([1, 3, 8])
    """

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.vectors = nn.Embedding(vocabulary, width)

    def forward(self, inputs: States) -> States:
        """The states at the lowest level."""
        tokens: Int[Tensor, "examples length columns"] = inputs["tokens"]
        mask: Bool[Tensor, "examples length"] = inputs["mask"]
        return {"states": self.vectors(tokens).sum(-2) * mask.unsqueeze(-1), "mask": mask}


class Masked(nn.Module):
    """A layer of sequences, `layer(sequence, mask)`, that takes and gives `{"states", "mask"}`.

    Example:
        >>> import torch
        >>> from mtlbook.layers.window import Window
        >>> stage = nn.Sequential(Words(5, 8), Masked(Window(8, 6)))
        >>> tokens = torch.tensor([[[1], [2], [0]]])
        >>> stage({"tokens": tokens, "mask": tokens[..., 0] > 0})["states"].shape
        torch.Size([1, 3, 6])
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, states: States) -> States:
        """The layer's states, under the same mask."""
        return {"states": self.layer(states["states"], states["mask"]), "mask": states["mask"]}


class TagHead(nn.Module):
    """The tags' logits at each position, `(examples, tags, length)`, linear in the states.

    Arguments:
        width: features of a position.
        tags: the task's outputs.

    Example:
        >>> import torch
        >>> TagHead(8, 3)({"states": torch.ones(2, 7, 8)}).shape
        torch.Size([2, 3, 7])
    """

    def __init__(self, width: int, tags: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, tags)

    def forward(self, states: States) -> Float[Tensor, "examples tags length"]:
        """The logits of each tag."""
        return self.linear(states["states"]).movedim(-1, 1)
