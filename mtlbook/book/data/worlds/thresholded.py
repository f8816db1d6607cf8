r"""Home of quantisation smoothing (section 7.5): a Gaussian quantity, and whether it is large."""

from functools import partial
from math import sqrt

import torch
from jaxtyping import Float
from scipy.optimize import root_scalar
from torch import Tensor

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.data.synthetic import (
    GAIN,
    SyntheticDataset,
    check_counts,
    check_shares,
    raw_signal,
    reference_inputs,
    unit_variance,
)
from mtlbook.errors import UsageError
from mtlbook.randomness import generator, standard_normal
from mtlbook.tasks import Task

INPUTS, FEATURES = 20, 4


def thresholded(
    seed: int,
    *,
    rows: int,
    prevalence: float = 0.1,
    second: float = 0.5,
    explained: float = 0.8,
) -> SyntheticDataset:
    r"""Three tasks made of one quantity: whether it is above a cut, its size, and a second cut.

    $$z = \sqrt{R}\, s(x) + \sqrt{1 - R}\, \varepsilon, \qquad \text{label} = [\, z > \tau_p \,],
      \qquad \text{degree} = z, \qquad \text{second} = [\, z > \tau_q \,],$$

    with inputs $x \sim N(0, I)$ in 20 dimensions, a signal $s$ of variance 1, linear in four
    features $\tanh(x B)$, and $\varepsilon \sim N(0, 1)$: the quantity has mean 0, variance 1 and,
    given the input, exactly a normal distribution. The cuts $\tau$ are where the shares of all
    cases above them are the prevalences $p$ and $q$.

    With $R = 0$ the input says nothing about the degree, and nothing about the label. To keep what
    the input says about the label and take away what it says about the degree beyond it, permute
    the degree within each class: `mtlbook.auxiliary.auxiliary_task.shuffled`.

    Arguments:
        seed: of everything drawn.
        rows: examples, each with all labels; fewer rows are the first of more.
        prevalence: $p$, the share above the cut of `label`.
        second: $q$, the share above that of `second`.
        explained: $R$, the share of the degree's variance that the input explains.

    Raises:
        UsageError: for a prevalence that is not between 0 and 1, or a share of variance above 1.

    Example:
        >>> made = thresholded(0, rows=2000, prevalence=0.25)
        >>> round(float(made.data.targets["label"].mean()), 2)
        0.25
    """
    check_counts(rows=rows)
    check_shares(explained=explained)
    for share in (prevalence, second):
        if not 0 < share < 1:
            raise UsageError(f"A prevalence lies between 0 and 1, neither of them: not {share}.")
    x = standard_normal(generator(seed, "thresholded", "inputs"), rows, INPUTS)
    matrix = standard_normal(generator(seed, "thresholded", "features"), INPUTS, FEATURES)
    matrix = GAIN / sqrt(INPUTS) * matrix
    head = standard_normal(generator(seed, "thresholded", "head"), FEATURES)
    reference = reference_inputs(seed, INPUTS, "thresholded")
    raw = partial(raw_signal, matrix=matrix, head=head)
    signal = sqrt(explained) * unit_variance(raw, x, reference)
    means = sqrt(explained) * unit_variance(raw, reference, reference)
    spread = sqrt(1 - explained)
    cuts = {
        "label": cut_above(prevalence, means, spread),
        "second": cut_above(second, means, spread),
    }
    z = signal + spread * standard_normal(generator(seed, "thresholded", "noise"), rows, 1)
    above = {name: (z > cut).double() for name, cut in cuts.items()}
    tasks = [Task.binary("label"), Task.regression("degree"), Task.binary("second")]
    targets = {"label": above["label"], "degree": z, "second": above["second"]}
    entropies = {name: _entropy(signal - cut, spread) for name, cut in cuts.items()}
    return SyntheticDataset(
        MultiTaskData.multi_label(tasks, x, targets),
        noiseless={"degree": signal},
        features=dict.fromkeys(targets, matrix),
        heads=dict.fromkeys(targets, head),
        least_loss=entropies | {"degree": spread**2},
    )


def cut_above(share: float, means: Float[Tensor, "rows 1"], spread: float) -> float:
    """The cut above which this share of normal variables of these means and one spread lies.

    Example:
        >>> round(cut_above(0.05, torch.zeros(1, 1), spread=1.0), 3)
        1.645
    """
    if spread == 0:
        return float(torch.quantile(means, 1 - share))

    def excess(cut: float) -> float:
        return float(torch.special.ndtr((means - cut) / spread).mean()) - share

    reach = float(means.abs().max()) + 10 * spread
    return root_scalar(excess, bracket=(-reach, reach), xtol=1e-9).root


def _entropy(above: Float[Tensor, "rows 1"], spread: float) -> float:
    """The mean entropy of [z > τ] given the input, in nats, from the means of z − τ."""
    if spread == 0:
        return 0.0
    chance = torch.special.ndtr(above / spread)
    return float(-(torch.xlogy(chance, chance) + torch.xlogy(1 - chance, 1 - chance)).mean())
