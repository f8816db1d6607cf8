r"""Section 6.9, multi-task attention: a mask for each task on the features of one shared trunk.

A block j of the trunk computes first features u⁽ʲ⁾ and last features p⁽ʲ⁾ for all tasks. Task i
takes from it what its mask lets through (Liu, Johns and Davison, 2019, equations 1 and 2):

    â_i⁽ʲ⁾ = a_i⁽ʲ⁾ ⊙ p⁽ʲ⁾,   a_i⁽ʲ⁾ = σ(h_i⁽ʲ⁾(g_i⁽ʲ⁾([u⁽ʲ⁾; f⁽ʲ⁾(â_i⁽ʲ⁻¹⁾)])))

where g and h are 1 × 1 convolutions, each with its normalisation, with a rectifier between them; f
brings what was attended to below to the size of u and is shared by the tasks; the first block reads
u alone. A head stands on the last â. Where every mask is 1 this is hard sharing; with one task it
is the paper's STAN.

Two things differ from the paper. Its batch normalisation, which makes an example's prediction
depend on the others of its batch, is layer normalisation over the channels of each position. Its f,
a 3 × 3 convolution with pooling, is here a further copy of the block's own first stage, which fits
any trunk.

**Where it fails.** A mask scales features that all tasks own and cannot make new ones: what the
trunk does not compute no task has. The trunk is shared whatever the data say, so that unrelated
tasks compete for it.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtlbook.errors import UsageError
from mtlbook.layers.stages import Stages, check_apart, make, named


class MultiTaskAttention(nn.Module):
    """A shared trunk in blocks, and for each task a mask on every block's last features.

    Arguments:
        stages: makes the stages of the trunk, from the input on; called twice, the second time for
            the readers.
        heads: by task, from the last block's attended features to the prediction.
        channels: how many channels (axis 1) each stage gives.
        block: stages in a block. The mask reads what the first of them gives and scales what the
            last gives; with 1 both are the same.

    Attributes:
        trunk: the shared stages: a plain network without attention.
        readers: for each block behind the first, f, the tasks' common reader of what they attended
            to in the block below.
        attention: by task, for each block h ∘ g with the sigmoid behind it, of channels at the end.
        heads: by task.

    Raises:
        UsageError: for no heads; for stages that are no function, or whose number or layers do not
            fit; for other numbers of channels than stages.

    Example:
        >>> model = MultiTaskAttention(
        ...     lambda: [nn.Conv2d(3, 4, 3, padding=1), nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))],
        ...     heads={"segments": nn.Conv2d(4, 5, 1), "depth": nn.Conv2d(4, 1, 1)},
        ...     channels=[4, 4],
        ...     block=1,
        ... )
        >>> {name: tuple(p.shape) for name, p in model(torch.ones(2, 3, 8, 8)).items()}
        {'segments': (2, 5, 4, 4), 'depth': (2, 1, 4, 4)}
        >>> [tuple(mask.shape) for mask in model.masks(torch.ones(2, 3, 8, 8))["depth"]]
        [(2, 4, 8, 8), (2, 4, 4, 4)]
    """

    def __init__(
        self,
        stages: Stages,
        heads: Mapping[str, nn.Module],
        *,
        channels: Sequence[int],
        block: int = 2,
    ) -> None:
        super().__init__()
        trunk = make(stages)
        if block < 1 or not trunk or len(trunk) % block:
            raise UsageError(
                f"{len(trunk)} stages are no blocks of {block}: give a multiple of block stages."
            )
        if len(channels) != len(trunk):
            raise UsageError(
                f"There are {len(channels)} numbers of channels for {len(trunk)} stages: give one "
                "for each stage."
            )
        self.heads = named(heads)
        if not len(self.heads):
            raise UsageError("A mask belongs to a task: give a head for at least one.")
        again = make(stages)
        check_apart([trunk, again])
        self.trunk = nn.Sequential(*trunk)
        self.readers = nn.ModuleList(again[block::block])
        ends = list(zip(channels[::block], channels[block - 1 :: block], strict=True))
        self.attention = nn.ModuleDict(
            {
                name: nn.ModuleList(
                    _mask(first * (1 if place == 0 else 2), last)
                    for place, (first, last) in enumerate(ends)
                )
                for name in self.heads
            }
        )
        self._ends, self._block = ends, block

    def forward(self, inputs: Float[Tensor, "examples ..."]) -> Mapping[str, Float[Tensor, "..."]]:
        """Each task's prediction, `(examples, outputs, ...)`."""
        attended, _ = self._attended(inputs)
        return {name: head(attended[name]) for name, head in self.heads.items()}

    def masks(self, inputs: Float[Tensor, "examples ..."]) -> dict[str, list[Tensor]]:
        """For each task the masks a of all blocks, from 0 (closed) to 1, in the shape of p."""
        return self._attended(inputs)[1]

    def _attended(self, inputs: Tensor) -> tuple[dict[str, Tensor], dict[str, list[Tensor]]]:
        attended: dict[str, Tensor] = {}
        masks: dict[str, list[Tensor]] = {name: [] for name in self.heads}
        stages, last = list(self.trunk), inputs
        for place in range(len(self._ends)):
            first, *others = stages[place * self._block : (place + 1) * self._block]
            u = first(last)
            last = nn.Sequential(*others)(u)
            self._check(place, u, last)
            for name in self.heads:
                below = [self.readers[place - 1](attended[name])] if place else []
                attention = self.attention.get_submodule(f"{name}.{place}")
                # Channels to the end, where linear layers take them: a 1 × 1 convolution.
                read = torch.cat([u, *below], dim=1).movedim(1, -1)
                masks[name].append(attention(read).movedim(-1, 1))
                attended[name] = masks[name][-1] * last
        return attended, masks

    def _check(self, place: int, u: Tensor, p: Tensor) -> None:
        found = u.shape[1], p.shape[1]
        if found != self._ends[place]:
            raise UsageError(
                f"Block {place + 1} begins with {found[0]} and ends with {found[1]} channels: name "
                "the stages' own numbers in channels."
            )
        if u.shape[2:] != p.shape[2:]:
            raise UsageError(
                f"Block {place + 1} changes the size of its features, {tuple(u.shape[2:])} to "
                f"{tuple(p.shape[2:])}, behind what its masks read: pool in its first stage."
            )


def _mask(reads: int, scales: int) -> nn.Sequential:
    """σ(h(g(·))), where g and h are linear maps of the channels, each normalised."""
    return nn.Sequential(
        nn.Linear(reads, scales),
        nn.LayerNorm(scales),
        nn.ReLU(),
        nn.Linear(scales, scales),
        nn.LayerNorm(scales),
        nn.Sigmoid(),
    )
