r"""Section 6.8, what sluice networks contain: α and β with which they compute an older method.

Ruder (2017, section 6.8) calls sluice networks a generalisation of hard parameter sharing, of
cross-stitch networks and of networks with a hierarchy of tasks. Each function here gives the α and
β of one such case, exactly; `Sluice.set_sharing` holds them fixed or lets training go on from them.

With E_t the row that takes task t's own features and E_1 the one that takes those of column 1:

| case | α behind each layer | β of task t |
|---|---|---|
| separate networks | I | last layer |
| hard sharing up to layer k | every row E_1 up to k, I behind | last layer |
| cross-stitch networks | A ⊗ I_S, A the units of M × M | last layer |
| low supervision | every row E_1 | layer of task t |
| private plus shared | subspace 1: E_1; the others: I | last layer |

**Where it fails.** The last case is exact for one layer. In the second the shared half is computed
by column 1 from all that column 1 holds, its private half included: the network with shared and
private trunks needs zeros in those weights, too, which α and β cannot give.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.errors import UsageError


class Sharing(NamedTuple):
    """The weights of a sluice network that say what is shared: `model.set_sharing(*sharing)`."""

    alpha: Float[Tensor, "stages parts parts"]
    beta: Float[Tensor, "tasks stages"]


def separate_networks(tasks: int, stages: int, subspaces: int = 2) -> Sharing:
    """α = I, β = the last layer: a network for each task.

    Example:
        >>> separate_networks(tasks=2, stages=3, subspaces=1).alpha[0].tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    return hard_sharing(tasks, stages, subspaces, shared=0)


def hard_sharing(
    tasks: int, stages: int, subspaces: int = 2, *, shared: int | None = None
) -> Sharing:
    """A trunk of the first `shared` stages (by default all), those of column 1.

    Example:
        >>> hard_sharing(tasks=2, stages=3, subspaces=1, shared=2).alpha.tolist()
        ... # doctest: +NORMALIZE_WHITESPACE
        [[[1.0, 0.0], [1.0, 0.0]],
         [[1.0, 0.0], [1.0, 0.0]],
         [[1.0, 0.0], [0.0, 1.0]]]
    """
    trunk = stages if shared is None else shared
    if not 0 <= trunk <= stages:
        raise UsageError(f"shared counts stages: choose 0 to {stages}, not {trunk}.")
    own, first = torch.eye(tasks), torch.zeros(tasks, tasks)
    first[:, 0] = 1.0
    return cross_stitch([first if stage < trunk else own for stage in range(stages)], subspaces)


def cross_stitch(mixing: Sequence[Float[Tensor, "tasks tasks"]], subspaces: int = 2) -> Sharing:
    """The units of a cross-stitch network, one a layer: all subspaces are mixed alike.

    Example:
        >>> cross_stitch([torch.tensor([[0.9, 0.1], [0.2, 0.8]])]).alpha[0, 0]
        tensor([0.9000, 0.0000, 0.1000, 0.0000])
    """
    alike = torch.eye(subspaces, dtype=mixing[0].dtype)
    alpha = torch.stack([torch.kron(own.detach(), alike) for own in mixing])
    beta = alpha.new_zeros(len(mixing[0]), len(mixing))
    beta[:, -1] = 1.0
    return Sharing(alpha, beta)


def low_supervision(levels: Sequence[int], stages: int, subspaces: int = 2) -> Sharing:
    """One trunk, from which each task is predicted at a layer of its own (Søgaard and Goldberg).

    Arguments:
        levels: of each task, the layer that it is predicted from, counted from 1.
        stages: how many layers there are.
        subspaces: of each layer.

    Example:
        >>> low_supervision([3, 1], stages=3).beta.tolist()
        [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    if not all(1 <= level <= stages for level in levels):
        raise UsageError(f"A task is predicted from layer 1 to {stages}, not from {list(levels)}.")
    alpha, beta = hard_sharing(len(levels), stages, subspaces)
    return Sharing(alpha, torch.eye(stages, dtype=beta.dtype)[[level - 1 for level in levels]])


def private_and_shared(tasks: int, stages: int, subspaces: int = 2) -> Sharing:
    """Subspace 1 is column 1's in all columns, the other subspaces are each task's own (Daumé).

    Example:
        >>> private_and_shared(tasks=2, stages=1).alpha[0].tolist()  # rows A1, A2, B1, B2
        ... # doctest: +NORMALIZE_WHITESPACE
        [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    """
    if subspaces < 2:
        raise UsageError("One subspace is shared and another private: give at least two.")
    alpha, beta = separate_networks(tasks, stages, subspaces)
    shared = torch.arange(tasks) * subspaces
    alpha[:, shared] = alpha[:, :1].clone()
    return Sharing(alpha, beta)
