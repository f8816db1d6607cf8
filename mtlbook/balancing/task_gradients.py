"""The tasks' gradients at shared parameters, their Gramian, and their weighted sum."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.balancing.linear_layers import LinearLayer, linear_layers
from mtlbook.balancing.shared_parameters import Losses
from mtlbook.errors import UsageError


class TaskGradients:
    """The gradient of each task's loss by each parameter, and what balancing needs of them.

    With J the tasks' gradients as rows, over all parameters, this is the Gramian J Jᵀ and Jᵀ w. It
    holds them parameter by parameter: J itself is never put together.

    Arguments:
        parameters: of each replica, or plain ones.
        rows: for each parameter the gradients of all tasks; None where no loss reaches it.
        like: a number for each task, of the replicas' shape, precision and device.
        bases: for each parameter None, or the Q of `mtlbook.balancing.linear_layers` where its rows
            hold coordinates.
        own: for each task the gradients of its loss by its own parameters, where asked for.
    """

    def __init__(
        self,
        parameters: list[Float[Tensor, "..."]],
        rows: list[Float[Tensor, "tasks ..."] | None],
        like: Float[Tensor, "*replicas tasks"],
        bases: list[Float[Tensor, "_ _"] | None],
        own: list[list[Tensor | None]] | None = None,
    ) -> None:
        self.parameters, self.rows, self.bases, self._like = parameters, rows, bases, like
        self.own = own

    @cached_property
    def gramian(self) -> Float[Tensor, "*replicas tasks tasks"]:
        """<∇L_i, ∇L_j>, summed over the parameters; symmetric to the last digit."""
        gramian = self.cross(self)
        return (gramian + gramian.mT) / 2

    def cross(self, other: "TaskGradients") -> Float[Tensor, "*replicas tasks others"]:
        """<∇L_i, ∇L'_j> with other losses' gradients by as many parameters of the same shapes.

        The other gradients may be those at another point, or by another batch.
        """
        tasks, others = self._like.shape[-1], other._like.shape[-1]
        total = self._like.new_zeros(*self._like.shape[:-1], tasks, others)
        # In one basis the inner products are those of the coordinates.
        pairs = (self.rows, self.rows) if other is self else (self._in_full(), other._in_full())
        for own, its in zip(*pairs, strict=True):
            if own is not None and its is not None:
                total = total + (self._flat(own) @ self._flat(its).mT).to(total)
        return total

    def _in_full(self) -> list[Float[Tensor, "tasks ..."] | None]:
        """The rows in their parameters' shapes."""
        pairs = zip(self.rows, self.bases, strict=True)
        return [
            rows if rows is None or basis is None else rows.mT @ basis.mT for rows, basis in pairs
        ]

    def _flat(self, rows: Float[Tensor, "tasks ..."]) -> Float[Tensor, "..."]:
        """(*replicas, tasks, numbers of the parameter)."""
        return rows.reshape(*rows.shape[: self._like.ndim], -1).movedim(0, -2)

    def combine(self, weights: Float[Tensor, "*replicas tasks"]) -> list[Float[Tensor, "..."]]:
        """Σ_t w_t ∇L_t, a tensor of each parameter's shape; zeros where no loss reaches it."""
        pairs = zip(self.parameters, self._weighted(weights), strict=True)
        return [torch.zeros_like(p) if combined is None else combined for p, combined in pairs]

    def accumulate(self, weights: Float[Tensor, "*replicas tasks"]) -> None:
        """Add Σ_t w_t ∇L_t to each parameter's `.grad`, as `backward()` does.

        The `.grad` of a parameter that no loss reaches stays as it is.
        """
        for parameter, combined in zip(self.parameters, self._weighted(weights), strict=True):
            if combined is not None:
                parameter.grad = combined if parameter.grad is None else parameter.grad + combined

    def _weighted(
        self, weights: Float[Tensor, "*replicas tasks"]
    ) -> Iterator[Float[Tensor, "..."] | None]:
        for rows, basis in zip(self.rows, self.bases, strict=True):
            if rows is None:
                yield None
                continue
            combined = weights.detach().to(rows).unsqueeze(-2) @ self._flat(rows)
            combined = combined.reshape(rows.shape[1:])
            yield combined if basis is None else combined.mT @ basis.mT


def task_gradients(
    losses: Losses,
    parameters: Iterable[Tensor],
    *,
    own: Sequence[Sequence[Tensor]] | None = None,
    retain_graph: bool = False,
    batched: bool | None = None,
) -> TaskGradients:
    """The gradients of several losses by the same parameters, in a plain loop or over replicas.

    A loss that does not reach a parameter, or is a constant, has the gradient 0 there. For
    balancing give the parameters that tasks share (`mtlbook.balancing.shared_parameters`), and let
    each head follow its own loss; `mtlbook.balancing.backward` does both.

    Arguments:
        losses: a loss a task: a list, or a tensor with the tasks on its last axis. Its other axes
            are replicas that share nothing.
        parameters: each of the shape of its replicas' axes, then its own.
        own: for each loss parameters that it alone reaches. One after another, their gradients come
            from the same pass and are kept as `.own`; they take no part in Gramian and sum.
        retain_graph: whether the losses can be differentiated again afterwards.
        batched: whether all tasks go backwards at once (`is_grads_batched`) or one after another.
            By default at once on an accelerator, where launches take the time, if each operation
            can be batched; one after another on a CPU, where that is up to three times as fast.

    Raises:
        UsageError: for parameters that do not have the replicas' axes.

    Example:
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> gradients = task_gradients([x.sum(), x.prod()], [x])
        >>> gradients.gramian
        tensor([[2., 3.],
                [3., 5.]])
        >>> gradients.combine(torch.tensor([1.0, 0.5]))
        [tensor([2.0000, 1.5000])]
    """
    parameters = list(parameters)
    each = list(losses.unbind(-1)) if isinstance(losses, Tensor) else list(losses)
    like = torch.stack([loss.detach() for loss in each], dim=-1)
    for parameter in parameters:
        if parameter.shape[: like.ndim - 1] != like.shape[:-1]:
            raise UsageError(
                f"Losses of the shape {tuple(like.shape)} are those of {tuple(like.shape[:-1])} "
                f"replicas, and a parameter of the shape {tuple(parameter.shape)} is not theirs: "
                "give parameters with the replicas' axes first, or one loss a task."
            )
    nothing: list[Tensor | None] = [None] * len(parameters)
    if not parameters or not any(loss.requires_grad for loss in each):
        return TaskGradients(parameters, nothing, like, nothing)
    if batched is None and like.device.type != "cpu":
        try:
            # The graph is kept for the second try.
            rows = _at_once(each, parameters, retain_graph=True)
            return TaskGradients(parameters, rows, like, nothing)
        except RuntimeError:
            # An operation that cannot be batched. A mistake in the losses is raised again below.
            batched = False
    if batched:
        rows = _at_once(each, parameters, retain_graph=retain_graph)
        return TaskGradients(parameters, rows, like, nothing)
    # The networks of replicas are small, and accelerators are slow at QR.
    plain = like.ndim == 1 and like.device.type == "cpu"
    by_id = linear_layers(each, parameters) if plain else {}
    layers = [by_id.get(id(parameter)) for parameter in parameters]
    alone = [()] * len(each) if own is None else own
    rows, kept = _one_by_one(each, parameters, layers, alone, retain_graph=retain_graph)
    bases = [None if layer is None else layer.basis for layer in layers]
    return TaskGradients(parameters, rows, like, bases, None if own is None else kept)


def _at_once(
    losses: list[Tensor], parameters: list[Tensor], *, retain_graph: bool
) -> list[Tensor | None]:
    """All tasks in one backward pass: one-hot cotangents on a batch axis."""
    tasks, first = len(losses), losses[0]
    one_hot = torch.eye(tasks, dtype=first.dtype, device=first.device)
    cotangents = one_hot.view(tasks, tasks, *[1] * first.ndim).expand(-1, -1, *first.shape)
    pairs = zip(losses, cotangents.unbind(1), strict=True)
    varying = [(loss, cotangent) for loss, cotangent in pairs if loss.requires_grad]
    found = torch.autograd.grad(
        [loss for loss, _ in varying],
        parameters,
        [cotangent for _, cotangent in varying],
        retain_graph=retain_graph,
        allow_unused=True,
        is_grads_batched=True,
    )
    return list(found)


def _one_by_one(
    losses: list[Tensor],
    parameters: list[Tensor],
    layers: list[LinearLayer | None],
    own: Sequence[Sequence[Tensor]],
    *,
    retain_graph: bool,
) -> tuple[list[Tensor | None], list[list[Tensor | None]]]:
    """One backward pass a task: rows, None where no loss reaches a parameter, and `own` gradients.

    Each row is put at once where it stays, since the rows are what takes the memory.
    """
    # What to differentiate by: a parameter, or the outputs of its layers.
    pairs = list(zip(parameters, layers, strict=True))
    wanted = [[p] if layer is None else layer.outputs for p, layer in pairs]
    together = [one for each in wanted for one in each]
    rows: list[Tensor | None] = [None] * len(parameters)
    kept: list[list[Tensor | None]] = [[] for _ in losses]
    last = max(number for number, loss in enumerate(losses) if loss.requires_grad)
    for number, loss in enumerate(losses):
        if not loss.requires_grad:
            continue
        gradients = torch.autograd.grad(  # pyright: ignore[reportCallIssue]
            loss,
            [*together, *own[number]],  # pyright: ignore[reportArgumentType]
            torch.ones_like(loss),
            retain_graph=retain_graph or number < last,
            allow_unused=True,
        )
        kept[number] = list(gradients[len(together) :])
        following = iter(gradients)
        for place, layer in enumerate(layers):
            if layer is None:
                row = next(following)
            else:
                row = layer.coordinates(islice(following, len(layer.outputs)))
            if row is not None:
                held = rows[place]
                if held is None:
                    held = rows[place] = row.new_zeros(len(losses), *row.shape)
                held[number] = row
    return rows, kept
