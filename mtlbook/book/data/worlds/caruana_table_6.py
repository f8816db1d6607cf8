r"""Home of predicting inputs (section 7.6): Caruana's Table 6, its noise, and a shift.

Two numbers $A$ and $B$ reach the learner as 20 bits. The target is $\sigma(A + B)$, or a label of
that probability, and there are features more, that can be inputs, outputs, or nothing: they stand
in the last columns of the inputs, and `predicting_inputs.Features` says what becomes of them.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.data.synthetic import SyntheticDataset, check_counts, check_noise
from mtlbook.errors import UsageError
from mtlbook.randomness import generator, standard_normal
from mtlbook.tasks import Task

BITS, LIMIT = 10, 5.0
SPREAD = LIMIT / 3**0.5  # the standard deviation of A, and of B
MAIN, LABEL = "f1", "label"

Pairs = Float[Tensor, "rows 2"]


def caruana_table_6(seed: int, *, rows: int, related: bool = True) -> SyntheticDataset:
    r"""Caruana (1997, section 4.9): $F_1 = \sigma(A + B)$, and the feature $F_2 = \sigma(A - B)$.

    $A$ and $B$ are uniform on $[-5, 5]$ and come as codes of 10 bits each: 20 inputs of 0 or 1.
    The feature is a function of the bits that needs the same two numbers as the target, and is
    uncorrelated with it: swapping $(A, B)$ for $(-B, -A)$ keeps $A - B$, and turns the sign of
    $A + B$ and so that of $F_1 - 1/2$.

    Arguments:
        seed: of everything drawn.
        rows: examples; the first rows are the same for any number.
        related: the dial. False is the negative control: $F_2$ of two other numbers, which no input
            codes.

    Returns:
        The regression `f1`, on 21 inputs of which the last is the feature.

    Example:
        >>> caruana_table_6(0, rows=4).data.inputs.shape
        torch.Size([4, 21])
    """
    check_counts(rows=rows)
    pairs = _uniform(seed, rows, "A and B")
    about = pairs if related else _uniform(seed, rows, "other numbers")
    target = torch.sigmoid(pairs.sum(1, keepdim=True))
    main = Task.regression(MAIN, metric="root mean squared error")
    feature = torch.sigmoid(about[:, :1] - about[:, 1:])
    return _wrapped(main, pairs, feature, target, target, 0.0)


def noisy_features(
    seed: int,
    *,
    rows: int,
    noise: float,
    copies: int = 1,
    related: bool = True,
    shift: float = 0.0,
) -> SyntheticDataset:
    r"""A label with the probability $\sigma(A + B)$, and $A$ and $B$ as features, with noise.

    After Caruana and de Sa (1997): a feature is $A + s\,\mathrm{sd}(A)\,\varepsilon$ with a noise
    scale $s$ and standard normal $\varepsilon$, the other one the same of $B$. Here the label is
    drawn, 0 or 1: a row's label says less about the two numbers than a good feature does.

    Arguments:
        seed: of everything drawn.
        rows: examples; the first rows are the same for any number.
        noise: $s$, in standard deviations of the feature. 0 gives $A$ and $B$ away.
        copies: of both features, each with noise of its own.
        related: False is the negative control: features of two other numbers.
        shift: the dial t of rows out of distribution, 0 for none: the noise is $(1 + t)$ times as
            large, and large $A$ and small $B$ are more frequent, $A = 5 (2 U^{1/(1+t)} - 1)$ and
            $B = -5 (2 U^{1/(1+t)} - 1)$ with uniform $U$.

    Returns:
        The binary task `label`, on the 20 bits and behind them the features, A, B, A, B, ….

    Example:
        >>> made = noisy_features(0, rows=4, noise=0.0)
        >>> A_plus_B = made.data.inputs[:, 20:].sum(1, keepdim=True)
        >>> torch.equal(torch.sigmoid(A_plus_B), made.noiseless["label"])
        True
    """
    check_counts(rows=rows, copies=copies)
    check_noise(noise)
    if not 0 <= shift < float("inf"):
        raise UsageError(f"shift must be a number of at least 0, not {shift}.")
    kind = "shifted" if shift else "as they are"
    pairs = _uniform(seed, rows, "A and B", kind, shift=shift)
    about = pairs if related else _uniform(seed, rows, "other numbers", kind, shift=shift)
    error = standard_normal(generator(seed, "table 6", "noise", kind), rows, 2 * copies)
    probability = torch.sigmoid(pairs.sum(1, keepdim=True))
    draw = torch.rand(
        rows, 1, generator=generator(seed, "table 6", "label", kind), dtype=torch.float64
    )
    entropy = torch.special.entr(probability) + torch.special.entr(1 - probability)
    return _wrapped(
        Task.binary(LABEL, metric="error rate"),
        pairs,
        about.repeat(1, copies) + noise * (1 + shift) * SPREAD * error,
        (draw < probability).double(),
        probability,
        float(entropy.mean()),
    )


def coded(values: Float[Tensor, " rows"]) -> Float[Tensor, "rows bits"]:
    """The binary codes of numbers in [-5, 5], the largest bit first.

    Example:
        >>> coded(torch.tensor([-5.0, 5.0])).sum(1)
        tensor([ 0., 10.])
    """
    steps = 2**BITS
    level = ((values + LIMIT) / (2 * LIMIT) * steps).floor().clamp(0, steps - 1).long()
    shifts = torch.arange(BITS - 1, -1, -1)
    return ((level[:, None] >> shifts) & 1).to(values.dtype)


def _uniform(
    seed: int,
    rows: int,
    what: Literal["A and B", "other numbers"],
    *kind: str,
    shift: float = 0.0,
) -> Pairs:
    """A and B: the middles of the intervals that their codes tell apart."""
    drawn = torch.rand(
        rows, 2, generator=generator(seed, "table 6", what, *kind), dtype=torch.float64
    )
    moved = drawn ** (1 / (1 + shift))
    moved = torch.stack([moved[:, 0], 1 - moved[:, 1]], dim=1) if shift else drawn
    steps = 2**BITS
    return LIMIT * (2 * ((moved * steps).floor().clamp(max=steps - 1) + 0.5) / steps - 1)


def _wrapped(
    main: Task,
    pairs: Pairs,
    features: Float[Tensor, "rows features"],
    target: Float[Tensor, "rows 1"],
    noiseless: Float[Tensor, "rows 1"],
    least_loss: float,
) -> SyntheticDataset:
    inputs = torch.cat([coded(pairs[:, 0]), coded(pairs[:, 1]), features], dim=1)
    data = MultiTaskData.multi_label([main], inputs, {main.name: target})
    return SyntheticDataset(
        data, noiseless={main.name: noiseless}, least_loss={main.name: least_loss}
    )
