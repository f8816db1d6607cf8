"""Linear layers in the graph of the losses: their weights' gradients, in the span of their inputs.

With A a batch of inputs, one a row, and D the gradient by its outputs, the gradient by a weight is
DᵀA, in the span of the inputs. With Aᵀ = QR it is (RD)ᵀQᵀ, where Q has orthonormal columns, as many
as the batch has rows: the coordinates RD have the same inner products, and for a batch with fewer
rows than the layer has inputs they are smaller and cheaper to compute. The inner products
<D_k, AAᵀD_l> would do without QR, but lose twice as many digits where DᵀA cancels.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.graph import GradientEdge

# The operations of a linear layer with and without a bias: the name of the inputs that they keep,
# and the place of the weight among what they were given.
OPERATIONS = {"AddmmBackward0": ("_saved_mat1", 2), "MmBackward0": ("_saved_self", 1)}


@dataclass(frozen=True)
class LinearLayer:
    """A weight that linear layers alone use, and all calls of these.

    Attributes:
        outputs: of each call.
        factors: of each call, its part of R.
        basis: Q.
    """

    outputs: list[GradientEdge]
    factors: list[Float[Tensor, "rank _"]]
    basis: Float[Tensor, "inputs rank"]

    def coordinates(
        self, cotangents: Iterable[Float[Tensor, "_ outputs"] | None]
    ) -> Float[Tensor, "rank outputs"] | None:
        """The gradient by the weight times Q, from those by the outputs; None where all are."""
        pairs = zip(self.factors, cotangents, strict=True)
        parts = [factor @ given for factor, given in pairs if given is not None]
        return sum(parts[1:], parts[0]) if parts else None


def linear_layers(losses: Sequence[Tensor], parameters: Iterable[Tensor]) -> dict[int, LinearLayer]:
    """By id the weights of linear layers for which coordinates cost less than gradients do.

    A weight that anything else uses as well (a penalty, a cast by autocast) is not among them, nor
    one with hooks, which are to see its gradient.
    """
    leaves, users = _uses(losses)
    found: dict[int, LinearLayer] = {}
    for parameter in parameters:
        calls = _calls(parameter, leaves.get(id(parameter)), users)
        inputs = [getattr(call, OPERATIONS[call.name()][0]).detach() for call in calls]
        rows = [len(own) for own in inputs]
        if calls and _pays(len(losses), sum(rows), *parameter.shape):
            basis, factor = torch.linalg.qr(torch.cat(inputs).mT)
            outputs = [GradientEdge(call, 0) for call in calls]
            found[id(parameter)] = LinearLayer(
                outputs, [part.contiguous() for part in factor.split(rows, 1)], basis
            )
    return found


def _pays(tasks: int, rows: int, outputs: int, inputs: int) -> bool:
    """Whether what all tasks save outweighs QR and the way back, in products of numbers by row.

    As measured, QR takes as long as a dozen matrix products of inputs × rows × rows.
    """
    return tasks * outputs * (inputs - rows) > (12 * rows + outputs) * inputs


def _calls(parameter: Tensor, leaf: Any, users: dict[Any, list[tuple[Any, int]]]) -> list[Any]:
    """The linear layers' operations on a weight; none where anything else uses it."""
    exact = parameter.dtype in (torch.float32, torch.float64)
    if not exact or parameter._backward_hooks or parameter._post_accumulate_grad_hooks:
        return []
    calls = []
    for transposed, _ in users.get(leaf, []):
        if transposed.name() != "TBackward0":
            return []
        for call, place in users[transposed]:
            _, weight = OPERATIONS.get(call.name(), ("", None))
            if place != weight or getattr(call, "_saved_alpha", 1) != 1:
                return []
            calls.append(call)
    return calls


def _uses(losses: Iterable[Tensor]) -> tuple[dict[int, Any], dict[Any, list[tuple[Any, int]]]]:
    """The node of each leaf by its id, and for each node those that use it, and at which place."""
    leaves: dict[int, Any] = {}
    users: dict[Any, list[tuple[Any, int]]] = defaultdict(list)
    waiting = [loss.grad_fn for loss in losses if loss.grad_fn is not None]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        for place, (following, _) in enumerate(node.next_functions):
            if following is not None:
                users[following].append((node, place))
                if following not in seen:
                    seen.add(following)
                    waiting.append(following)
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            leaves[id(leaf)] = node
    return leaves, users
