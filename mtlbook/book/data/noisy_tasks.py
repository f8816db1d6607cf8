r"""Synthetic tasks whose noise is known: what the best possible network would leave over.

It is `related_tasks` on common inputs with a noise and a unit of each task's own, and with
classifications whose labels are drawn from a softmax.
"""

from collections.abc import Sequence
from math import inf, isfinite

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mtlbook.data.constructed import related_tasks
from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.data.synthetic import SyntheticDataset
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.tasks import Task


def noisy_tasks(
    seed: int,
    *,
    rows: int,
    noise: Sequence[float] = (),
    scale: Sequence[float] = (),
    temperature: Sequence[float] = (),
    classes: int = 3,
    inputs: int = 10,
    features: int = 4,
    shared_features: float = 1.0,
    linear: bool = False,
) -> SyntheticDataset:
    r"""Regressions with a noise and a unit each, and classifications with a temperature each.

    With the signals $f_1(x), f_2(x), \dots$ of `related_tasks` (of variance 1, on the same inputs),

    $$\text{value}_t = k_t\, (f_t(x) + \sigma_t\, \varepsilon_t), \qquad
      \text{label}_j \sim \mathrm{softmax}(z_j(x) / \tau_j),$$

    where $\varepsilon_t \sim N(0, 1)$ and the logits $z_j$ are as many further signals as there are
    classes. The least mean squared error is $k_t^2 \sigma_t^2$, whatever the network; the least
    cross-entropy is the mean entropy of $\mathrm{softmax}(z_j / \tau_j)$, which rises from 0 at
    $\tau_j = 0$ towards $\log(\text{classes})$. $\sigma_t$ is how hard a regression is and $k_t$
    only its unit: the best possible explained variance is $1 / (1 + \sigma_t^2)$.

    Arguments:
        seed: of everything drawn; fewer rows are the first rows of more.
        rows: examples, each labelled for all tasks.
        noise: $\sigma_t$ of each regression, relative to its signal: `value_1`, `value_2`, ….
        scale: $k_t$ of each regression; without any, all 1.
        temperature: $\tau_j$ of each classification: `label_1`, `label_2`, ….
        classes: of each classification.
        inputs: width of $x$.
        features: hidden features behind each signal.
        shared_features: how far the signals share them, from 0 to 1, as in `related_tasks`.
        linear: whether the signals are linear in $x$.

    Returns:
        A data set whose `noiseless` holds the signals $k_t f_t(x)$ and the likeliest labels.

    Example:
        >>> made = noisy_tasks(0, rows=5, noise=[0.5, 1.0], scale=[1.0, 10.0])
        >>> made.least_loss
        {'value_1': 0.25, 'value_2': 100.0}
    """
    units = list(scale) or [1.0] * len(noise)
    if len(units) != len(noise):
        raise UsageError(
            f"{len(noise)} regressions with {len(units)} scales: give a scale for each noise."
        )
    _check_numbers("noise", noise, least=0.0)
    _check_numbers("scale", units, above=0.0)
    _check_numbers("temperature", temperature, above=0.0)
    if temperature and classes < 2:
        raise UsageError(f"A classification needs at least 2 classes, not {classes}.")
    signals = related_tasks(
        seed,
        tasks=len(noise) + classes * len(temperature),
        rows=rows,
        inputs=inputs,
        features=features,
        shared_features=shared_features,
        noise=1.0,
        same_inputs=True,
        linear=linear,
    )
    tasks, targets, noiseless, least_loss = [], {}, {}, {}
    matrices, heads = {}, {}
    names = [task.name for task in signals.data.tasks]
    for number, (sigma, unit) in enumerate(zip(noise, units, strict=True), start=1):
        task, source = Task.regression(f"value_{number}"), names[number - 1]
        signal = signals.noiseless[source]
        error = signals.data.targets[source] - signal
        targets[task.name] = unit * (signal + sigma * error)
        noiseless[task.name] = unit * signal
        least_loss[task.name] = (unit * sigma) ** 2
        matrices[task.name], heads[task.name] = signals.features[source], signals.heads[source]
        tasks.append(task)
    for number, tau in enumerate(temperature, start=1):
        task = Task.classification(f"label_{number}", classes)
        start = len(noise) + classes * (number - 1)
        sources = names[start : start + classes]
        logits = torch.cat([signals.noiseless[name] for name in sources], dim=1) / tau
        targets[task.name] = _drawn(logits, generator(seed, "label", number))
        noiseless[task.name] = logits.argmax(1)
        log_p = logits.log_softmax(1)
        least_loss[task.name] = float(-(log_p.exp() * log_p).sum(1).mean())
        matrices[task.name] = torch.cat([signals.features[name] for name in sources], dim=1)
        heads[task.name] = torch.block_diag(*[signals.heads[name][:, None] for name in sources])
        tasks.append(task)
    data = MultiTaskData.multi_label(tasks, signals.data.inputs, targets)
    return SyntheticDataset(data, noiseless, matrices, heads, least_loss=least_loss)


def _drawn(logits: Float[Tensor, "rows classes"], source: torch.Generator) -> Int[Tensor, " rows"]:
    """A class of each row, drawn with the probabilities of the softmax.

    The largest of logits with independent Gumbel noise, -log(-log u), has these probabilities.
    """
    uniform = torch.rand(logits.shape, generator=source, dtype=torch.float64)
    # 0 is possible, and its logarithm is not finite.
    gumbel = -(-uniform.clamp(min=2.0**-54).log()).log()
    return (logits + gumbel).argmax(1)


def _check_numbers(
    name: str, values: Sequence[float], *, least: float = -inf, above: float = -inf
) -> None:
    bound = f"at least {least:g}" if above == -inf else f"above {above:g}"
    for value in values:
        if not (isfinite(value) and value >= least and value > above):
            raise UsageError(f"Every {name} must be a number {bound}, not {value}.")
