r"""Home of the scalarisation critique (section 8.4): three linear tasks want one unit."""

import torch
from torch import Tensor

from mtlbook.data.synthetic import SyntheticDataset, check_counts, check_noise, regressions
from mtlbook.errors import UsageError
from mtlbook.randomness import generator, standard_normal

TASKS: tuple[str, ...] = ("A", "B", "C")


def one_unit(
    seed: int, *, rows: int, correlation: float = -0.3, inputs: int = 8, noise: float = 0.5
) -> SyntheticDataset:
    r"""Three linear regressions whose coefficients have one cosine with each other.

    With $x \sim N(0, I)$, three orthonormal directions $Q$ turned at random, and $L$ with
    $L L^\top$ of ones on the diagonal and $\rho$ elsewhere,

    $$y = x\, Q L^\top + \sigma \varepsilon, \qquad \varepsilon \sim N(0, I).$$

    A linear network with one shared unit serves each task by the square of the cosine between the
    unit and the task's coefficients. Below $\rho = 0$ fixed weights leave out part of the Pareto
    front, above it none (the control); see `mtlbook.weighting.linear_front`.

    Arguments:
        seed: of everything drawn.
        rows: examples, each labelled for all tasks; the first rows are the same for any number.
        correlation: the dial $\rho$, above -0.5 and below 1.
        inputs: width of $x$, at least 3.
        noise: $\sigma$; signals have variance 1.

    Raises:
        UsageError: for a correlation that three tasks cannot have.

    Example:
        >>> made = one_unit(0, rows=5)
        >>> a, b = (made.heads[task] for task in "AB")
        >>> round(float(a @ b), 12), made.least_loss["A"]
        (-0.3, 0.25)
    """
    check_counts(rows=rows)
    check_counts(len(TASKS), inputs=inputs)
    check_noise(noise)
    if not -0.5 < correlation < 1:
        raise UsageError(f"correlation lies between -0.5 and 1 for three tasks, not {correlation}.")
    wanted = torch.full((3, 3), correlation, dtype=torch.float64).fill_diagonal_(1)
    drawn = standard_normal(generator(seed, "directions"), inputs, inputs)
    rotation, upper = torch.linalg.qr(drawn)
    directions = (rotation * upper.diagonal().sign())[:, :3]
    coefficients = directions @ torch.linalg.cholesky(wanted).T
    x = standard_normal(generator(seed, "inputs"), rows, inputs)
    signals = dict(zip(TASKS, (x @ coefficients).split(1, 1), strict=True))
    errors = (noise * standard_normal(generator(seed, "noise"), rows, 3)).split(1, 1)
    targets: dict[str, Tensor] = {
        task: own + error for (task, own), error in zip(signals.items(), errors, strict=True)
    }
    return SyntheticDataset(
        regressions(x, targets),
        signals,
        heads=dict(zip(TASKS, coefficients.T, strict=True)),
        least_loss=dict.fromkeys(TASKS, noise**2),
    )
