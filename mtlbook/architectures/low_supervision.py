r"""Section 6.4, low supervision: one stack of layers, each task supervised at a layer of its own.

Where others put all heads on the last layer, here the head of task t reads the layer l(t)
(Søgaard and Goldberg, 2016, section 2; Ruder, 2017, section 6.4):

    h^(0) = x,   h^(l) = layer_l(h^(l−1)),   ŷ_t = head_t(h^(l(t)))

The paper's layers are bidirectional recurrent networks over a sentence and its heads linear with
softmax; a stack of any stages will do. The loss of task t trains the layers 1 to l(t), and its
gradient in the layers above is exactly 0. With all tasks at the last layer this is hard sharing.
The paper tags parts of speech at layer 1 of 3 and chunks or supertags at layer 3; at each step one
task is drawn at random, and plain gradient descent follows its loss alone. An optimiser with
momentum, such as Adam, would go on moving the layers above from earlier steps.

**Where it fails.** The order of the tasks is given, not learnt. The lower task helps where its tags
are what the upper one is made of; where it reads the text in another way, it takes capacity of the
layers that it trains. The layers above it see only as many labels as the upper task has.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtlbook.errors import UsageError
from mtlbook.layers.stages import Stages, make, named

# One tensor, or several by name: tokens and their mask. The first stage knows which one.
if TYPE_CHECKING:
    Inputs = Any
else:
    Inputs = Tensor | Mapping[str, Tensor]


class LowSupervision(nn.Module):
    """A stack of stages, and for each task a head at one of them.

    Arguments:
        stages: makes the layers, from the input on; called once.
        heads: by task, from its layer's features to the prediction.
        at: by task, the number of its layer, counted from 1; tasks that it does not name are at
            the last layer.

    Attributes:
        layers: from the input on.
        heads: by task.
        at: by task, the number of its layer.
        supervised: `(tasks, layers)`, 1 where the row's task has its head and else 0: the weights
            β of a sluice network (section 6.8) that chooses one layer for each task.

    Raises:
        UsageError: for stages that are no function, no stage or no head; for a layer that there is
            not, or of a task that there is not; for layers above all heads.

    Example:
        >>> model = LowSupervision(
        ...     lambda: [nn.Sequential(nn.Linear(8, 16), nn.Tanh()), nn.Linear(16, 4)],
        ...     heads={"parts": nn.Linear(16, 3), "chunks": nn.Linear(4, 2)},
        ...     at={"parts": 1},
        ... )
        >>> {name: tuple(p.shape) for name, p in model(torch.ones(5, 8)).items()}
        {'parts': (5, 3), 'chunks': (5, 2)}
        >>> model.supervised
        tensor([[1., 0.],
                [0., 1.]])
    """

    supervised: Float[Tensor, "tasks layers"]

    def __init__(
        self,
        stages: Stages,
        heads: Mapping[str, nn.Module],
        *,
        at: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(make(stages))
        self.heads = named(heads)
        self.at = _checked(at or {}, list(self.heads), len(self.layers))
        chosen = torch.tensor(list(self.at.values())) - 1
        beta = torch.nn.functional.one_hot(chosen, len(self.layers)).to(torch.get_default_dtype())
        self.register_buffer("supervised", beta, persistent=False)

    def forward(self, inputs: Inputs) -> Mapping[str, Float[Tensor, "..."]]:
        """Each task's prediction, `(examples, outputs, ...)`."""
        features, made = inputs, {}
        for number, layer in enumerate(self.layers, start=1):
            features = layer(features)
            for name, head in self.heads.items():
                if self.at[name] == number:
                    made[name] = head(features)
        return {name: made[name] for name in self.heads}


def _checked(at: Mapping[str, int], tasks: list[str], depth: int) -> dict[str, int]:
    """Each task's layer, in the order of the heads."""
    if not depth:
        raise UsageError("A stack needs at least one stage, behind which a head can stand.")
    unknown = [name for name in at if name not in tasks]
    if unknown:
        raise UsageError(
            f"at gives a layer to {unknown[0]!r}, which has no head: the heads are {tasks}."
        )
    chosen = {name: at.get(name, depth) for name in tasks}
    for name, number in chosen.items():
        if not 1 <= number <= depth:
            raise UsageError(
                f"at puts {name!r} at layer {number} of {depth}: layers count from 1, so choose 1 "
                f"to {depth}."
            )
    if max(chosen.values()) < depth:
        raise UsageError(
            f"No task is supervised above layer {max(chosen.values())}, so that the stages above "
            f"it would never be trained: leave them out, or put a task at layer {depth}."
        )
    return chosen
