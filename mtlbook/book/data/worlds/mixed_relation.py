r"""Home of the mixtures of experts (section 8.1): two tasks whose relation is mixed.

Two generators of a pair of regressions. In `cosine_related`, that of Ma et al. (2018, section 3.2),
the tasks are ridge functions whose directions have a cosine: how related they are is a number. In
`input_dependent` they are the same task for some inputs and unrelated for others: how related they
are depends on the input, which gates can follow and a shared representation cannot.
"""

from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.data.synthetic import (
    SyntheticDataset,
    check_counts,
    check_noise,
    check_shares,
    reference_inputs,
    regressions,
    with_noise,
)
from mtlbook.errors import UsageError
from mtlbook.randomness import generator, standard_normal

Rows = Float[Tensor, " rows"]


def cosine_related(
    seed: int,
    *,
    rows: int,
    tasks: tuple[str, str] = ("first", "second"),
    cosine: float = 0.5,
    inputs: int = 20,
    waves: int = 5,
    noise: float = 0.1,
) -> SyntheticDataset:
    r"""Two ridge functions of the same shape, along directions with a given cosine.

    With $x \sim N(0, I)$ and unit vectors $u_1 \perp u_2$,

    $$w_1 = u_1, \quad w_2 = p\, u_1 + \sqrt{1 - p^2}\, u_2, \qquad
      \varphi(z) = z + \sum_{i=1}^m \sin(\alpha_i z + \beta_i), \qquad
      y_k = \varphi(w_k^\top x) / s + \sigma \varepsilon,$$

    where $\alpha_i$, $\beta_i$ and $\varepsilon$ are $N(0, 1)$ and the same for every $p$, and $s$
    gives the signals variance 1. The paper states neither $m$ nor how long $w$ is nor how $\alpha$
    and $\beta$ are drawn. The cosine $p$ is not the correlation of the targets, which depends on
    $\varphi$: measure that. With $p = 1$ the tasks are one, the negative control.

    Arguments:
        seed: of everything drawn.
        rows: examples, each labelled for both tasks; the first rows are the same for any number.
        tasks: the names of the two.
        cosine: $p$, from −1 to 1.
        inputs: width of $x$, at least 2.
        waves: $m$.
        noise: $\sigma$.

    Returns:
        A data set whose heads are $w_1$ and $w_2$.

    Raises:
        UsageError: for a cosine or a number that is impossible.

    Example:
        >>> made = cosine_related(0, rows=5, cosine=1.0)
        >>> torch.equal(made.noiseless["first"], made.noiseless["second"])
        True
    """
    if not -1 <= cosine <= 1:
        raise UsageError(f"cosine is that of two directions: from -1 to 1, not {cosine}.")
    x, reference, (u, v) = _drawn(seed, rows, inputs, waves, noise)
    directions = {tasks[0]: u, tasks[1]: cosine * u + sqrt(1 - cosine**2) * v}
    scale = _wave(seed, reference @ u, waves).std()
    signals = {name: _wave(seed, x @ w, waves) / scale for name, w in directions.items()}
    return _wrapped(seed, x, signals, directions, noise)


def input_dependent(
    seed: int,
    *,
    rows: int,
    tasks: tuple[str, str] = ("first", "second"),
    apart: float = 0.5,
    inputs: int = 20,
    waves: int = 5,
    noise: float = 0.1,
) -> SyntheticDataset:
    r"""Two tasks that are one for some inputs, and unrelated for the others.

    With $x$, $\varphi$, $s$, $u_1 \perp u_2$ of `cosine_related`, both directions without the first
    input, $x_1$, which alone decides:

    $$y_1 = \varphi(u_1^\top x) / s + \sigma \varepsilon, \qquad
      y_2 = \sigma \varepsilon' + \varphi(u^\top x) / s, \quad
      u = \begin{cases} u_2 & x_1 \le \Phi^{-1}(a) \\ u_1 & \text{else.} \end{cases}$$

    With $a = 0$ the tasks are one, the negative control; with $a = 1$ they have nothing in common
    but $\varphi$.

    Arguments:
        seed: of everything drawn.
        rows: examples, each labelled for both tasks; the first rows are the same for any number.
        tasks: the names of the two.
        apart: $a$, for which share of the inputs the second task goes its own way.
        inputs: width of $x$, at least 3.
        waves: $m$.
        noise: $\sigma$.

    Returns:
        A data set whose heads are $u_1$, and $u_2$ of the second task's own way.

    Raises:
        UsageError: for a share or a number that is impossible.

    Example:
        >>> made = input_dependent(0, rows=1_000, apart=0.3)
        >>> same = made.noiseless["first"] == made.noiseless["second"]
        >>> round(float(same.double().mean()), 1)
        0.7
    """
    check_shares(apart=apart)
    x, reference, (u, v) = _drawn(seed, rows, inputs, waves, noise, idle=1)
    border = torch.special.ndtri(torch.tensor(apart, dtype=torch.float64))
    scale = _wave(seed, reference @ u, waves).std()
    along = {"u": _wave(seed, x @ u, waves) / scale, "v": _wave(seed, x @ v, waves) / scale}
    second = torch.where(x[:, 0] <= border, along["v"], along["u"])
    signals = dict(zip(tasks, (along["u"], second), strict=True))
    return _wrapped(seed, x, signals, dict(zip(tasks, (u, v), strict=True)), noise)


def correlation(made: SyntheticDataset) -> float:
    """Pearson's correlation of the two tasks' signals.

    Example:
        >>> round(correlation(cosine_related(0, rows=100, cosine=1.0)), 6)
        1.0
    """
    return float(torch.corrcoef(made.signals.T)[0, 1])


def _drawn(
    seed: int, rows: int, inputs: int, waves: int, noise: float, idle: int = 0
) -> tuple[Float[Tensor, "rows inputs"], Float[Tensor, "reference inputs"], tuple[Tensor, Tensor]]:
    """Inputs, reference inputs, and two orthogonal unit vectors that leave the first `idle` out."""
    check_counts(rows=rows, waves=waves)
    check_counts(2 + idle, inputs=inputs)
    check_noise(noise)
    drawn = standard_normal(generator(seed, "directions"), inputs, 2)
    drawn[:idle] = 0
    u = drawn[:, 0] / drawn[:, 0].norm()
    v = drawn[:, 1] - (drawn[:, 1] @ u) * u
    x = standard_normal(generator(seed, "inputs"), rows, inputs)
    return x, reference_inputs(seed, inputs), (u, v / v.norm())


def _wave(seed: int, z: Rows, waves: int) -> Rows:
    """φ(z), the linear part and the waves."""
    alpha, beta = standard_normal(generator(seed, "waves"), 2, waves)
    return z + torch.sin(z[:, None] * alpha + beta).sum(1)


def _wrapped(
    seed: int,
    x: Float[Tensor, "rows inputs"],
    signals: dict[str, Rows],
    directions: dict[str, Float[Tensor, " inputs"]],
    noise: float,
) -> SyntheticDataset:
    noiseless = {name: signal[:, None] for name, signal in signals.items()}
    if len(noiseless) != 2:
        raise UsageError("The two tasks need two names: their results are told apart by them.")
    targets = {
        name: with_noise(signal, noise, generator(seed, "noise", number))
        for number, (name, signal) in enumerate(noiseless.items())
    }
    return SyntheticDataset(
        regressions(x, targets),
        noiseless,
        heads=directions,
        least_loss=dict.fromkeys(noiseless, noise**2),
    )
