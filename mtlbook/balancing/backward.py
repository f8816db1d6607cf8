"""One backward pass by a combiner, in a plain loop or over replicas: in place of backward()."""

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mtlbook.balancing.shared_parameters import (
    Losses,
    find_last_shared_weight,
    shared_and_own,
)
from mtlbook.balancing.task_gradients import task_gradients
from mtlbook.combiner import Combiner, Evidence
from mtlbook.errors import UsageError


def backward(
    losses: Losses,
    parameters: Iterable[Tensor],
    combiner: Combiner,
    *,
    labelled: Bool[Tensor, "*replicas tasks"] | None = None,
    progress: float = 0.0,
    cross: Float[Tensor, "*replicas tasks others"] | None = None,
    retain_graph: bool = False,
) -> Evidence:
    """Add to `.grad` what a combiner makes of the tasks' gradients; return what it weighed by.

    Shared parameters get Σ_t w_t ∇φ_t, with φ_t the transformed loss of task t. The others, and the
    combiner's trained parameters, follow Σ_t w_t φ_t or, where `combiner.heads` is "own", Σ_t φ_t.
    For a combiner with `losses_after`, take the optimiser's step, compute the losses of the same
    batch, and call `combiner.after(evidence, losses)`.

    Transforming the losses costs no backward pass: the Gramian of φ is D G D, with D = diag φ'(L)
    and G that of the losses.

    Arguments:
        losses: a loss a task, in the combiner's order: a list, so that the graph tells which
            parameters are shared, or just stacked.
        parameters: all that are trained; each with the replicas' axes first, if losses have them.
        combiner: replicated, if losses have replicas' axes.
        labelled: which tasks have a label in the batch, by default all.
        progress: the part of the training that is done.
        cross: for a combiner that looks ahead.
        retain_graph: whether the losses can be differentiated again afterwards.

    Raises:
        UsageError: where the losses are not one a task of the combiner.

    Example:
        >>> from mtlbook.balancing.upgrad import UPGrad
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> losses = [x.square().sum(), (x - torch.tensor([3.0, 2.0])).square().sum()]
        >>> _ = backward(losses, [x], UPGrad(["origin", "other"]))
        >>> x.grad  # (2, 4) and (-4, 0) conflict: half of (0, 4) and of (-3.2, 1.6)
        tensor([-1.6000,  2.8000])
    """
    parameters = [parameter for parameter in parameters if parameter.requires_grad]
    each = list(losses.unbind(-1)) if isinstance(losses, Tensor) else list(losses)
    if len(each) != len(combiner.tasks):
        raise UsageError(
            f"{type(combiner).__name__} combines the losses of {list(combiner.tasks)}, and "
            f"{len(each)} losses are given: give one a task, in this order."
        )
    stacked = torch.stack(each, dim=-1)
    values = stacked.detach()
    if labelled is None:
        labelled = torch.ones_like(values, dtype=torch.bool)
    # As in Combiner.forward: at 1 every transformation is finite.
    values = values.where(labelled, 1)

    at_losses = values.clone().requires_grad_()
    transformed = combiner.transform(at_losses)
    (slopes,) = torch.autograd.grad(transformed.sum(), at_losses, retain_graph=True)
    gramian, gradients, shared, own, where = None, None, [], None, []
    if combiner.gramian_at is not None:
        if combiner.gramian_at == "shared":
            shared, own = shared_and_own(losses, parameters)
            where = shared
            # Replicas differ in which of their tasks have labels; accelerators take all at once.
            own = own if shared and values.ndim == 1 and values.device.type == "cpu" else None
        else:
            last = find_last_shared_weight(losses, parameters, values.ndim - 1)
            where = [] if last is None else [last]
        kept = own is None or retain_graph
        gradients = task_gradients(each, where, own=own, retain_graph=kept)
        gramian = slopes[..., None] * gradients.gramian * slopes[..., None, :]
    evidence = Evidence(values, labelled, progress, gramian, cross)
    if combiner.gramian_at is not None and not where:
        # Tasks that share no parameter have no gradients to weigh against each other.
        weights = labelled.to(values)
    else:
        weights = combiner.weigh(evidence).detach().where(labelled, 0)

    if gradients is not None and shared:
        gradients.accumulate(weights * slopes)
    trained = [parameter for parameter in combiner.parameters() if parameter.requires_grad]
    by_heads = weights if combiner.heads == "weighted" else labelled.to(weights)
    if trained:
        (by_heads * transformed).sum().backward(inputs=trained)
    if gradients is not None and own is not None and gradients.own is not None:
        factors = by_heads * slopes
        for number, (heads, rows) in enumerate(zip(own, gradients.own, strict=True)):
            for parameter, row in zip(heads, rows, strict=True):
                if row is None:
                    continue
                # What an unlabelled task has in its place may not be finite.
                gradient = factors[number] * row if labelled[number] else torch.zeros_like(row)
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        return evidence
    taken = {id(parameter) for parameter in shared}
    others = [parameter for parameter in parameters if id(parameter) not in taken]
    if others:
        of_heads = (by_heads * slopes * stacked.where(labelled, 0)).sum()
        of_heads.backward(inputs=others, retain_graph=retain_graph)
    return evidence
