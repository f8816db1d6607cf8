r"""Section 4.4, representation bias: learning several tasks prefers what serves all of them.

Where several representations suit one task, a network that learns further tasks ends up with one
that suits these, too (Caruana, 1997, section 3.2). Ruder (2017, section 4.4) adds that such a
representation should also serve tasks that nobody has seen yet, *as long as they come from the same
environment*. Environment is a term of Baxter's (*A model of inductive bias learning*, Journal of
Artificial Intelligence Research 12, 2000): a distribution from which tasks are drawn. There a
representation is learnt from a sample of tasks, as a hypothesis is from a sample of examples.

`environment` draws tasks from such a distribution, with a dial that leads to another one, and
`recovered_subspace` looks into a trained network for what the environment's tasks have in common
(`mtlbook.transfer.linear_probe` learns new tasks on a frozen representation).
"""

from collections.abc import Sequence
from math import sqrt

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import subspace_angles
from torch import Tensor

from mtlbook.data.synthetic import (
    GAIN,
    SyntheticDataset,
    check_counts,
    check_noise,
    check_shares,
    normal,
    regressions,
)
from mtlbook.randomness import generator


def environment(
    seed: int,
    *,
    tasks: Sequence[str],
    rows: int,
    inputs: int = 20,
    features: int = 4,
    overlap: float = 1.0,
    noise: float = 0.5,
    same_inputs: bool = False,
    spanning: bool = False,
) -> SyntheticDataset:
    r"""Tasks drawn from one environment: they have a representation in common, and nothing else.

    With $x \sim N(0, I)$ and a matrix $U$ of $k$ orthonormal columns, for a task $t$

    $$\phi(x) = \tanh(\gamma\, x U) / \sqrt v, \qquad
      y_t = \phi(x)\, a_t + \sigma \varepsilon, \qquad
      a_t \text{ uniform on the unit sphere}, \quad \varepsilon \sim N(0, 1),$$

    where $\gamma = 2$ and $v$, the variance of $\tanh(\gamma z)$, gives each feature variance 1.
    The features are independent, so that the signal has variance 1, too, and the least possible
    mean squared error is $\sigma^2$. The environment is the distribution of $a_t$ given $U$; a task
    is one draw.

    The dial moves to another environment. With $V$ the home environment's matrix and $V'$ another
    one orthogonal to it,

    $$U = \rho V + \sqrt{1 - \rho^2}\, V',$$

    so that all principal angles between the two representations are $\arccos \rho$: at
    $\rho = 1$ the environments are one, at $\rho = 0$ they have no direction in common. Everything
    else of a task (its inputs, its noise, its $a_t$) stays as it is while the dial moves.

    Arguments:
        seed: of everything drawn.
        tasks: their names; what is drawn for a task depends on its name, not on the company.
        rows: examples of each task.
        inputs: width of $x$, at least twice the features.
        features: $k$.
        overlap: the dial $\rho$, between 0 and 1.
        noise: $\sigma$.
        same_inputs: all tasks have the inputs of the first; otherwise each has its own.
        spanning: in each successive group of $k$ tasks the heads $a_t$ are orthogonal, so that $k$
            tasks show every feature, all of them equally, and further tasks show no new one. The
            first task's head stays as it is.

    Returns:
        A data set whose `features` hold $U$ for each task and whose `heads` hold $a_t$.

    Example:
        >>> made = environment(0, tasks=["a", "b"], rows=5)
        >>> made.data.inputs.shape, tuple(made.features["a"].shape)
        (torch.Size([10, 20]), (20, 4))
    """
    check_counts(tasks=len(tasks), rows=rows, features=features)
    check_counts(2 * features, inputs=inputs)
    check_shares(overlap=overlap)
    check_noise(noise)
    turned = torch.linalg.qr(normal(generator(seed, "representation"), inputs, 2 * features))[0]
    matrix = overlap * turned[:, :features] + sqrt(1 - overlap**2) * turned[:, features:]

    heads = {name: normal(generator(seed, "head", name), features, 1)[:, 0] for name in tasks}
    heads = {name: head / head.norm() for name, head in heads.items()}
    if spanning:
        heads = _orthogonal(heads, features)
    x, noiseless, matrices, targets = {}, {}, {}, {}
    for name in tasks:
        x[name] = normal(generator(seed, "inputs", tasks[0] if same_inputs else name), rows, inputs)
        matrices[name] = matrix
        noiseless[name] = (true_features(x[name], matrix) @ heads[name])[:, None]
        targets[name] = noiseless[name] + noise * normal(generator(seed, "noise", name), rows, 1)
    data = regressions(x[tasks[0]] if same_inputs else x, targets)
    return SyntheticDataset(data, noiseless, matrices, heads)


def _orthogonal(heads: dict[str, Tensor], features: int) -> dict[str, Tensor]:
    """The heads of each successive group of as many tasks as features, orthogonalised in order."""
    made = {}
    every = list(heads)
    for first in range(0, len(every), features):
        names = every[first : first + features]
        directions, triangle = torch.linalg.qr(torch.stack([heads[name] for name in names], dim=1))
        turned = directions * triangle.diagonal().sign()  # the first one keeps its sign
        made |= dict(zip(names, turned.T, strict=True))
    return made


def true_features(
    x: Float[Tensor, "rows inputs"], matrix: Float[Tensor, "inputs features"]
) -> Float[Tensor, "rows features"]:
    r"""What an environment's tasks have in common, $\phi(x) = \tanh(\gamma\, x U) / \sqrt v$."""
    return torch.tanh(GAIN * x @ matrix) / sqrt(_variance_of_tanh())


def _variance_of_tanh() -> float:
    """The mean of tanh²(γ z) over a standard normal z, to the last digits.

    The trapezoidal rule: its error falls exponentially with the number of points where a function
    is smooth and vanishes at both ends.
    """
    points = np.linspace(-10, 10, 401)
    density = np.exp(-(points**2) / 2)
    return float(density @ np.tanh(GAIN * points) ** 2 / density.sum())


def recovered_subspace(
    weights: Float[Tensor, "hidden inputs"], matrix: Float[Tensor, "inputs features"]
) -> float:
    r"""How much of an environment's representation the leading directions of a layer span.

    The mean of $\cos^2$ over the principal angles between the span of $U$ and that of the $k$
    leading right singular vectors of the layer's weights: 1 if they are the same, 0 if they are
    orthogonal, and $k / d$ on average for directions at random in $d$ dimensions.

    Example:
        >>> weights = torch.diag(torch.tensor([3.0, 2.0, 0.1]))
        >>> round(recovered_subspace(weights, torch.eye(3)[:, 1:]), 6)
        0.5
    """
    _, _, right = torch.linalg.svd(weights.detach().double().cpu(), full_matrices=False)
    leading = right[: matrix.shape[1]].T
    angles = subspace_angles(leading.numpy(), matrix.double().cpu().numpy())
    return float((np.cos(angles) ** 2).mean())
