"""Which parameters several tasks share: read off the graph that autograd keeps of the losses."""

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from itertools import count
from typing import Any

from jaxtyping import Float
from torch import Tensor

from mtlbook.errors import UsageError

# A loss a task: of each replica, or the numbers themselves in a plain loop.
Losses = Sequence[Float[Tensor, "*replicas"]] | Float[Tensor, "*replicas tasks"]


def shared_parameters(losses: Losses, parameters: Iterable[Tensor]) -> list[Tensor]:
    """The parameters that more than one loss reaches, in the given order.

    One pass over the graph's nodes, of which a loss has one for each operation: its time does not
    grow with the size of the parameters.

    Arguments:
        losses: a loss a task, as a list or just stacked. Where they went through a common
            operation since, every parameter seems to be shared.
        parameters: any tensors that require a gradient.
    """
    return shared_and_own(losses, parameters)[0]


def shared_and_own(
    losses: Losses, parameters: Iterable[Tensor]
) -> tuple[list[Tensor], list[list[Tensor]]]:
    """The parameters that more than one loss reaches, and for each loss those it alone reaches.

    Arguments:
        losses: a loss a task, as a list or just stacked.
        parameters: any tensors that require a gradient; the order stays theirs.
    """
    reached = _reached(losses)
    shared: list[Tensor] = []
    tasks = losses.shape[-1] if isinstance(losses, Tensor) else len(losses)
    own: list[list[Tensor]] = [[] for _ in range(tasks)]
    for parameter in parameters:
        bits, _ = reached.get(id(parameter), (0, 0))
        if bits.bit_count() == 1:
            own[bits.bit_length() - 1].append(parameter)
        elif bits:
            shared.append(parameter)
    return shared, own


def last_shared_weight(losses: Losses, parameters: Iterable[Tensor], replicas: int = 0) -> Tensor:
    """The shared weight that the forward pass used last: W of GradNorm.

    Arguments:
        losses: a loss a task, as a list or just stacked.
        parameters: any tensors that require a gradient.
        replicas: the number of leading axes that are replicas. A weight has at least two others;
            where no shared parameter has, the last of all is taken.

    Raises:
        UsageError: where the tasks share no parameter.
    """
    last = find_last_shared_weight(losses, parameters, replicas)
    if last is None:
        raise UsageError(
            "The tasks share no parameter, so that there is no last shared layer: use a network "
            "with a trunk, or a combiner that needs no gradients."
        )
    return last


def find_last_shared_weight(
    losses: Losses, parameters: Iterable[Tensor], replicas: int = 0
) -> Tensor | None:
    """`last_shared_weight`, or None where the tasks share no parameter."""
    reached = _reached(losses)
    shared = [p for p in parameters if reached.get(id(p), (0, 0))[0].bit_count() > 1]
    weights = [p for p in shared if p.ndim - replicas >= 2] or shared
    return max(weights, key=lambda parameter: reached[id(parameter)][1], default=None)


def _reached(losses: Losses) -> dict[int, tuple[int, int]]:
    """By leaf's id: the losses that reach it, one bit each, and the number of its latest use.

    Autograd numbers operations as they are carried out, so that the latest come first here and
    a node has heard of all its losses before it is left. Numbers out of order (a forward pass in
    several threads) cost time alone: a node that hears of another loss is visited again.
    """
    bits: dict[Any, int] = {}
    order: list[tuple[int, int, Any]] = []
    tie = count()
    leaves: dict[int, tuple[int, int]] = {}

    def visit(node: Any, losses_here: int, used: int) -> None:
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            before, latest = leaves.get(id(leaf), (0, 0))
            leaves[id(leaf)] = (before | losses_here, max(latest, used))
        elif losses_here & ~bits.get(node, 0):
            if node not in bits:
                heappush(order, (-node._sequence_nr(), next(tie), node))
            bits[node] = bits.get(node, 0) | losses_here

    for number, node in enumerate(_roots(losses)):
        if node is not None:
            visit(node, 1 << number, 0)
    done: dict[Any, int] = {}
    while order:
        negative, _, node = heappop(order)
        if done.get(node) == bits[node]:
            continue
        done[node] = bits[node]
        for following, _ in node.next_functions:
            if following is not None:
                visit(following, bits[node], -negative)
    return leaves


def _roots(losses: Losses) -> list[Any]:
    if not isinstance(losses, Tensor):
        return [_node(loss) for loss in losses]
    if losses.grad_fn is not None and losses.grad_fn.name() == "StackBackward0":
        return [node for node, _ in losses.grad_fn.next_functions]
    return [_node(losses)] * losses.shape[-1]


def _node(loss: Tensor) -> Any:
    """The graph's node of a loss, which may be a parameter itself."""
    if loss.grad_fn is None and loss.requires_grad:
        return loss.view_as(loss).grad_fn
    return loss.grad_fn
