r"""Linear probing: a frozen representation, and a linear head of a new task on it in closed form.

What training a new head on a frozen trunk with weight decay converges to (Yosinski, Clune, Bengio
and Lipson, *How transferable are features in deep neural networks?*, NeurIPS 2014, hold the trunk
of a network in the same way).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtlbook.errors import UsageError


def hidden_layer(
    trunk: nn.Module, inputs: Float[Tensor, "examples inputs"]
) -> Float[Tensor, "examples hidden"]:
    """What a trained trunk says about inputs, without gradients, on the CPU."""
    with torch.no_grad():
        device = next(trunk.parameters()).device
        return trunk(inputs.to(device)).cpu()


def ridge_path(
    hidden: Float[Tensor, "examples width"],
    targets: Float[Tensor, "examples tasks"],
    penalties: Sequence[float],
) -> tuple[Float[Tensor, "penalties width tasks"], Float[Tensor, "penalties 1 tasks"]]:
    r"""Linear heads on a frozen representation, for each penalty its weights and intercepts.

    $$\min_{a, c}\; \frac1n \lVert y - c - H a \rVert^2 + \lambda \lVert a \rVert^2$$

    in closed form: what training a new head on a frozen trunk with weight decay converges to. With
    the singular value decomposition $H - \bar H = P\, \mathrm{diag}(s)\, Q^\top$ it is
    $a = Q\, \mathrm{diag}(s / (s^2 + n \lambda))\, P^\top (y - \bar y)$.

    Example:
        >>> x = torch.tensor([[-1.0], [1.0]])
        >>> ridge_path(x, 2 * x + 3, penalties=[0.0, 1.0])[0].flatten()
        tensor([2., 1.])
    """
    targets = targets.to(hidden)
    mean, level = hidden.mean(0, keepdim=True), targets.mean(0, keepdim=True)
    left, spread, right = torch.linalg.svd(hidden - mean, full_matrices=False)
    projected = left.T @ (targets - level)  # (ranks, tasks)
    # Without a penalty, directions that the examples do not span must not be blown up.
    known = spread > 1e-10 * spread.max().clamp(min=1e-300)
    shrunk = [
        torch.where(known, spread / (spread.square() + len(hidden) * penalty), 0.0)
        for penalty in penalties
    ]
    weights = torch.stack([right.T @ (factor[:, None] * projected) for factor in shrunk])
    return weights, level - mean @ weights


def tuned_head(
    hidden: Float[Tensor, "rows width"],
    targets: Float[Tensor, "rows tasks"],
    train: int,
    validation: int,
    penalties: Sequence[float],
) -> Float[Tensor, "test tasks"]:
    """What heads of new tasks on a frozen representation predict, each task's penalty tuned.

    Arguments:
        hidden: what the frozen trunk says about the new tasks' examples.
        targets: a column for each new task; each is learnt for itself.
        train: the first rows, on which the heads are fitted.
        validation: the rows behind them, on which each task chooses among the penalties.
        penalties: one trial each.

    Returns:
        The predictions for all further rows, which are the test.
    """
    tested = train + validation
    if min(train, validation) < 1 or tested >= len(hidden):
        raise UsageError(
            f"{train} rows to fit and {validation} to choose a penalty leave no test row of "
            f"{len(hidden)}, or are no rows: ask for other counts."
        )
    weights, intercepts = ridge_path(hidden[:train], targets[:train], penalties)
    targets = targets.to(hidden)
    predicted = hidden @ weights + intercepts  # (penalties, rows, tasks)
    chosen = (predicted - targets)[:, train:tested].square().mean(1).argmin(0)
    # Each task's column under its own penalty: (tasks, test) turned round.
    return predicted[chosen, tested:, torch.arange(len(chosen))].T
