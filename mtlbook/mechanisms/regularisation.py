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

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.data.synthetic import check_counts, check_shares
from mtlbook.randomness import generator
from mtlbook.tasks import Task


def random_labels(
    inputs: Float[Tensor, "rows ..."], seed: int, *, tasks: int, agreement: float = 0.0
) -> MultiTaskData:
    r"""Binary tasks on the given inputs whose labels are pure noise: there is nothing to learn.

    Task $t$ has for row $i$ the label $\sigma_i$ that is common to all tasks with probability
    $\rho$, and else one of its own, each 0 or 1 with probability ½. With $\rho = 0$ the tasks have
    nothing in common. With $\rho = 1$ they are one task: what one network fits for one of them it
    fits for all, and sharing restricts nothing.

    The tasks are the outputs of one, `noise`: a network with an output for each of them is hard
    parameter sharing with linear heads.

    Arguments:
        inputs: of any shape; every row is labelled for every task.
        seed: of the labels; a task's own labels do not depend on how many tasks there are.
        tasks: how many.
        agreement: the dial ρ, between 0 and 1.

    Example:
        >>> labels = random_labels(torch.ones(6, 2), 0, tasks=2, agreement=1.0).targets["noise"]
        >>> torch.equal(labels[:, 0], labels[:, 1])
        True
    """
    check_counts(tasks=tasks)
    check_shares(agreement=agreement)
    rows = len(inputs)
    common = _fair_labels(rows, seed, "common")
    columns = []
    for number in range(1, tasks + 1):
        own = _fair_labels(rows, seed, "own", number)
        chosen = torch.rand(
            rows, generator=generator(seed, "random labels", "choice", number), dtype=torch.float64
        )
        columns.append(torch.where(chosen < agreement, common, own))
    noise = Task.binary("noise", outputs=tasks)
    return MultiTaskData.multi_label([noise], inputs, {noise.name: torch.stack(columns, dim=1)})


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


def equal_width(width: int, *, tasks: int, inputs: int) -> int:
    r"""The width of a shared layer with as many parameters as the tasks' separate networks.

    A network of one hidden layer with $w$ units has $(d + 1) w$ parameters in the layer and
    $w + 1$ in a head of one output. $T$ of them have as many as one shared layer with $T$ heads at

    $$w' = \frac{T (d + 2)}{d + 1 + T}\, w .$$

    Arguments:
        width: $w$, of each separate network.
        tasks: $T$, of one output each.
        inputs: $d$.

    Returns:
        The nearest whole number to $w'$.

    Example:
        >>> equal_width(2, tasks=8, inputs=20)
        12
    """
    check_counts(width=width, tasks=tasks, inputs=inputs)
    return round(tasks * (inputs + 2) * width / (inputs + 1 + tasks))
