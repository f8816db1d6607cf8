r"""Section 4.5, regularisation: a representation that several tasks share fits noise less well.

How well a class of functions can fit pure noise is its empirical Rademacher complexity (Bartlett
and Mendelson, 2002, definition 2): with Rademacher variables $\sigma_i = \pm 1$,

$$\hat R(F) = E_\sigma \sup_{f \in F} \frac{1}{n} \sum_{i=1}^{n} \sigma_i f(x_i),
  \qquad -1 \le f \le 1.$$

For T tasks that are learnt together the sum runs over the tasks, too (Maurer, 2006, section 2):

$$\hat R(F) = E_\sigma \sup_{f \in F}
  \frac{1}{T n} \sum_{t=1}^{T} \sum_{i=1}^{n} \sigma_{ti} f_t(x_i).$$

Separate networks find the supremum task by task; with a trunk in common all tasks must find it with
the same features. Training approaches the supremum from below. The predictions $f = \pm 1$ turn the
sum into 2 · accuracy − 1 on the training rows.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.data.synthetic import check_counts, check_shares
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.tasks import Task


def random_labels(
    inputs: Float[Tensor, "rows ..."], seed: int, *, tasks: int, agreement: float = 0.0
) -> MultiTaskData:
    r"""Binary tasks on the given inputs whose labels are pure noise: there is nothing to learn.

    Task $t$ has for row $i$ the label $\sigma_i$ that is common to all tasks with probability
    $\rho$, and else one of its own, each 0 or 1 with probability ½. With $\rho = 0$ the tasks have
    nothing in common. With $\rho = 1$ they are one task: what one network fits for one of them it
    fits for all, and sharing restricts nothing (the negative control).

    Arguments:
        inputs: of any shape; every row is labelled for every task.
        seed: of the labels; a task's own labels do not depend on how many tasks there are.
        tasks: how many, named `noise_1`, `noise_2`, ….
        agreement: the dial ρ, between 0 and 1.

    Example:
        >>> data = random_labels(torch.ones(6, 2), 0, tasks=2, agreement=1.0)
        >>> torch.equal(data.targets["noise_1"], data.targets["noise_2"])
        True
    """
    check_counts(tasks=tasks)
    check_shares(agreement=agreement)
    rows = len(inputs)
    common = _fair_labels(rows, seed, "common")
    targets = {}
    for number in range(1, tasks + 1):
        own = _fair_labels(rows, seed, "own", number)
        chosen = torch.rand(
            rows, generator=generator(seed, "random labels", "choice", number), dtype=torch.float64
        )
        targets[f"noise_{number}"] = torch.where(chosen < agreement, common, own)
    return MultiTaskData.multi_label([Task.binary(name) for name in targets], inputs, targets)


def _fair_labels(rows: int, seed: int, *purpose: str | int) -> Float[Tensor, " rows"]:
    """0 or 1, each with probability ½: Rademacher variables as labels."""
    source = generator(seed, "random labels", *purpose)
    return torch.randint(2, (rows,), generator=source).double()


def reduced_rank_fit(
    x: Float[Tensor, "rows inputs"], y: Float[Tensor, "rows tasks"], rank: int
) -> float:
    r"""How much of several tasks' targets a linear network with a shared layer can fit at best.

    The network is $f(x) = x B A$ with $B$ of `rank` columns, shared, and $A$ a head a task. With
    $P$ the projection on the columns of $x$ and $s_i$ the singular values of $P y$, largest first
    (Eckart and Young, 1936),

    $$\max_{A, B} \; 1 - \frac{\lVert y - x B A \rVert^2}{\lVert y \rVert^2}
      = \frac{\sum_{i \le \text{rank}} s_i^2}{\lVert y \rVert^2}.$$

    With targets of pure noise and no more tasks than the rank this is inputs / rows in expectation,
    as for separate networks; each further task has to do with the features that are there.

    Returns:
        The share of the targets' squared size that is fitted, from 0 to 1.

    Example:
        >>> x, y = torch.eye(3), torch.eye(3)[:, :2]
        >>> [reduced_rank_fit(x, y, rank) for rank in (1, 2)]
        [0.5, 1.0]
    """
    check_counts(rank=rank)
    basis, scale, _ = torch.linalg.svd(x, full_matrices=False)
    # Directions that the inputs do not have are rounding.
    basis = basis[:, scale > scale[0] * max(x.shape) * torch.finfo(x.dtype).eps]
    fitted = torch.linalg.svdvals(basis.T @ y)[:rank].square().sum()
    return float(fitted / y.square().sum())


def gradient_agreement(trunk: nn.Module, losses: Sequence[Float[Tensor, ""]]) -> float:
    r"""How far the tasks pull a shared trunk in one direction: 1 when all pull alike.

    With $g_t$ the gradient of task t's loss by the trunk's parameters,

    $$\Big\lVert \sum_t g_t \Big\rVert \Big/ \sum_t \lVert g_t \rVert.$$

    Gradients of T tasks that are orthogonal and equally long give $1 / \sqrt{T}$: of what each
    task's noise asks of the trunk, the trunk receives that much.

    Arguments:
        trunk: what the tasks share; its parameters must need gradients.
        losses: one a task, from one forward pass through the trunk.

    Raises:
        UsageError: where no loss depends on the trunk.

    Example:
        >>> trunk = nn.Linear(2, 1, bias=False)
        >>> first, second = trunk(torch.eye(2))[:, 0]
        >>> round(gradient_agreement(trunk, [first, second]), 4)
        0.7071
    """
    parameters = list(trunk.parameters())
    gradients = torch.stack(
        [
            parameters_to_vector(
                torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
            )
            for loss in losses
        ]
    )
    lengths = gradients.norm(dim=1).sum()
    if not lengths > 0:
        raise UsageError("No task has a gradient by the trunk: is it what the tasks share?")
    return float(gradients.sum(0).norm() / lengths)
