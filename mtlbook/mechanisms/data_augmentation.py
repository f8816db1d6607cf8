r"""Section 4.1, implicit data augmentation: synthetic data with independent noise, and the probes.

Ruder's *implicit data augmentation* (2017, section 4.1) is Caruana's *statistical data
amplification* (1997, section 3): tasks whose targets need the same function F and whose noise is
independent are further measurements of F. In the data of this file nothing else is at work:

$$y_k = c_k F(x) + \varepsilon_k, \qquad
  \varepsilon_k = \sigma \left( \sqrt\rho\, e_0 + \sqrt{1 - \rho}\, e_k \right), \qquad
  e_0, e_1, \dots \sim N(0, 1),$$

for tasks k = 1, …, K on the same inputs. The dial is ρ, the correlation of two tasks' noise. Least
squares on all tasks estimates F(x) by Σ_k c_k y_k / Σ_k c_k², whose noise has the variance

$$\sigma^2\, \frac{(1 - \rho) \sum_k c_k^2 + \rho\, (\sum_k c_k)^2}{(\sum_k c_k^2)^2},$$

that is σ² / Σ_k c_k² where the noise is independent, and for equal c_k = 1 it is
σ² (1 + (K − 1) ρ) / K: K tasks count as K / (1 + (K − 1) ρ) tasks, Kish's design effect (*Survey
sampling*, 1965, section 5.4), and as a single one where they share their noise (ρ = 1, the negative
control).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.data.constructed import related_tasks
from mtlbook.data.synthetic import SyntheticDataset, check_noise, check_shares, mixed, regressions
from mtlbook.errors import UsageError
from mtlbook.randomness import generator


def measured(
    seed: int,
    inputs: Float[Tensor, "rows inputs"],
    signals: Float[Tensor, "rows tasks"],
    *,
    validation: int = 0,
    test: int,
    noise: float,
    correlation: float = 0.0,
) -> SyntheticDataset:
    r"""Signals measured with noise that correlates between the tasks in the training rows.

    ε_k = σ (√ρ e_0 + √(1 − ρ) e_k), so that each ε_k has the variance σ² whatever ρ. In the
    validation rows ρ is 0 whatever the dial: labels of several tasks *choose* better than one
    task's, and the dial is to change what is learnt and nothing else. The test rows carry no noise,
    so that the error on them is the distance from the signals themselves.

    Arguments:
        seed: of the noise; a task's own part e_k does not depend on how many tasks there are.
        inputs: x; the training rows first, then those for validation, then those of the test.
        signals: c_k F(x) of each task.
        validation: rows in front of the test rows whose noise is each task's own.
        test: how many of the last rows are measured without noise.
        noise: σ.
        correlation: ρ, from 0 (each task's noise is its own) to 1 (all tasks share one noise).
    """
    check_shares(correlation=correlation)
    check_noise(noise)
    if min(validation, test) < 0 or validation + test > len(inputs):
        raise UsageError(
            f"There are {len(inputs)} rows, of which {validation} cannot be for validation and "
            f"{test} for the test."
        )

    def drawn(*purpose: str | int) -> Float[Tensor, " rows"]:
        source = generator(seed, "measurement noise", *purpose)
        return torch.randn(len(inputs), generator=source, dtype=torch.float64)

    own = torch.stack([drawn("task", k) for k in range(signals.shape[1])], dim=1)
    common = drawn("common")[:, None].expand_as(own)
    errors = noise * mixed(correlation, common, own)
    train = len(inputs) - test - validation
    errors[train:] = noise * own[train:]
    errors[train + validation :] = 0
    noiseless = {f"task_{k}": signal[:, None] for k, signal in enumerate(signals.T, start=1)}
    targets = {
        name: signal + error[:, None]
        for (name, signal), error in zip(noiseless.items(), errors.T, strict=True)
    }
    return SyntheticDataset(regressions(inputs, targets), noiseless)


def noisy_copies(
    seed: int,
    *,
    tasks: int,
    train: int,
    validation: int,
    test: int,
    inputs: int = 6,
    features: int = 3,
    noise: float = 1.0,
    correlation: float = 0.0,
    shared_features: float = 1.0,
    shared_heads: float = 1.0,
    coefficients: Sequence[float] | None = None,
) -> SyntheticDataset:
    r"""Measurements of one function: y_k = c_k F(x) + ε_k with x ~ N(0, I) and one F for all tasks.

    F is that of `related_tasks`, tanh(x B) a scaled to variance 1. Two further dials leave the case
    that one F serves all: each task has an F_k = tanh(x B_k) a_k of its own, whose B_k and a_k
    correlate with those of any other task as far as they say. With the features in common and heads
    of their own, the tasks share what Caruana (1997) and Ruder mean by F: the hidden features.

    Arguments:
        seed: of everything drawn; a task's draws do not depend on how many tasks there are.
        tasks: K.
        train: rows of the training part, which come first.
        validation: rows of the validation part, which come next.
        test: rows of the test part, which carry no noise.
        inputs: width of x.
        features: width of tanh(x B).
        noise: σ.
        correlation: ρ of the training rows, the dial.
        shared_features: correlation of the entries of B_k between tasks.
        shared_heads: correlation of the entries of a_k between tasks.
        coefficients: c_k, by default all 1. With different ones and ρ = 1 differences between the
            tasks are free of noise: the negative control needs equal ones.

    Example:
        >>> made = noisy_copies(0, tasks=2, train=40, validation=20, test=100, correlation=1.0)
        >>> bool((made.targets[:40, 0] == made.targets[:40, 1]).all())
        True
    """
    scales = [1.0] * tasks if coefficients is None else list(coefficients)
    if len(scales) != tasks:
        raise UsageError(f"{len(scales)} coefficients for {tasks} tasks: give one a task.")
    made = related_tasks(
        seed,
        tasks=tasks,
        rows=train + validation + test,
        inputs=inputs,
        features=features,
        shared_features=shared_features,
        shared_heads=shared_heads,
        noise=0.0,
        same_inputs=True,
    )
    columns = [scale * f for scale, f in zip(scales, made.noiseless.values(), strict=True)]
    return measured(
        seed,
        made.data.inputs,
        torch.cat(columns, dim=1),
        validation=validation,
        test=test,
        noise=noise,
        correlation=correlation,
    )


def noise_variance(
    coefficients: Sequence[float], noise: float = 1.0, correlation: float = 0.0
) -> float:
    r"""The variance of the noise in Σ_k c_k y_k / Σ_k c_k², the tasks' common estimate of F(x).

    $\sigma^2 [(1 - \rho) \sum_k c_k^2 + \rho (\sum_k c_k)^2] / (\sum_k c_k^2)^2$.

    Example:
        >>> noise_variance([1.0, 1.0, 1.0, 1.0]), noise_variance([1.0, 1.0], correlation=1.0)
        (0.25, 1.0)
    """
    squares = sum(c * c for c in coefficients)
    if not squares > 0:
        raise UsageError("No task measures F: give at least one coefficient that is not 0.")
    shared = sum(coefficients) ** 2
    return noise**2 * ((1 - correlation) * squares + correlation * shared) / squares**2


def expected_gain(tasks: int, *, shared: int, own: int, correlation: float = 0.0) -> float:
    r"""How many times its examples joint training is worth, by counting weights.

    In least squares each weight adds σ² / n to the error at the training inputs. Of K tasks with s
    weights in common and h of each task's own, the error is σ² (s + h) / n alone and
    σ² (s (1 + (K − 1) ρ) / K + h) / n together, so that the gain is

    $$\frac{s + h}{s\, (1 + (K - 1) \rho) / K + h}.$$

    Without weights of the tasks' own it is Kish's design effect, at ρ = 0 the ideal K; with them
    it never exceeds (s + h) / h.

    Arguments:
        tasks: K.
        shared: s, the weights that all tasks train.
        own: h, the weights that each task has for itself.
        correlation: ρ of the tasks' noise.

    Example:
        >>> expected_gain(8, shared=10, own=0), expected_gain(8, shared=10, own=10)
        (8.0, 1.7777777777777777)
    """
    if tasks < 1 or shared + own < 1 or min(shared, own) < 0:
        raise UsageError(f"{shared} shared and {own} own weights of {tasks} tasks are not a model.")
    return (shared + own) / (shared * (1 + (tasks - 1) * correlation) / tasks + own)


def noise_carried(
    predictions: Float[Tensor, "rows tasks"],
    signals: Float[Tensor, "rows tasks"],
    noise: Float[Tensor, "rows others"],
) -> Float[Tensor, "tasks others"]:
    r"""How much of each training noise the predictions for the training rows carry.

    Entry (k, j) is the slope of task k's error on the noise of task j,

    $$s_{kj} = \frac{\sum_i (\hat y_{ki} - c_k F(x_i))\, \varepsilon_{ji}}
                    {\sum_i \varepsilon_{ji}^2},$$

    over the training rows: 1 where a network has learnt the noise by heart, 0 where it ignores it.
    The expectation of s_kk is the number of effective degrees of freedom per example (Efron, JASA
    2004, equation 2.9): p / n for least squares with p weights on n examples, and p / (K n) where K
    tasks with independent noise share all weights.

    Arguments:
        predictions: ŷ on the training rows.
        signals: c_k F(x) on them.
        noise: that of the same tasks, or of any others.
    """
    signals, noise = signals.to(predictions), noise.to(predictions)
    return (predictions - signals).T @ noise / noise.square().sum(0)
