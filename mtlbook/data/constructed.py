r"""Synthetic data sets whose truth is known, with a dial for what relates their tasks.

Everything is float64 and drawn per `(seed, purpose)`: a further task leaves the earlier ones as
they were, and fewer rows are the first rows of more.
"""

from collections.abc import Sequence
from functools import partial
from math import sqrt

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.data.synthetic import (
    GAIN,
    SyntheticDataset,
    check_counts,
    check_shares,
    hidden,
    mixed,
    raw_signal,
    reference_inputs,
    regressions,
    unit_variance,
    with_noise,
)
from mtlbook.errors import UsageError
from mtlbook.randomness import generator, standard_normal
from mtlbook.tasks import Task


def related_tasks(
    seed: int,
    *,
    tasks: int | Sequence[int],
    rows: int,
    inputs: int = 20,
    features: int = 4,
    shared_features: float = 1.0,
    shared_heads: float = 0.0,
    noise: float = 0.5,
    same_inputs: bool = False,
    linear: bool = False,
) -> SyntheticDataset:
    r"""Regressions that share their features and their heads as far as two dials say.

    With $x \sim N(0, I)$, for tasks $t = 1, 2, \dots$

    $$h_t(x) = \tanh(x B_t), \quad
      B_t = \sqrt{\rho_f}\, B + \sqrt{1 - \rho_f}\, B_t^{\text{own}}, \quad
      a_t = \sqrt{\rho_h}\, a + \sqrt{1 - \rho_h}\, a_t^{\text{own}}, \quad
      y_t = h_t(x)\, a_t / s_t + \sigma \varepsilon,$$

    where the entries of $B$ and $B_t^{\text{own}}$ are $N(0, 4/\text{inputs})$, those of $a$,
    $a_t^{\text{own}}$ and $\varepsilon$ are $N(0, 1)$, and $s_t$ is the standard deviation of
    $h_t(x)\, a_t$: the signal has variance 1 and the best possible mean squared error is
    $\sigma^2$. Two tasks' entries of $B_t$ at the same place correlate by $\rho_f$, those of
    $a_t$ by $\rho_h$. With $\rho_f = 0$ no task can help another (the negative control); with
    $\rho_f = 1$ one representation serves all; with $\rho_f = \rho_h = 1$ all tasks are one.

    Arguments:
        seed: of everything drawn; a task's draws do not depend on how many tasks there are.
        tasks: how many, named `task_1`, `task_2`, …; or how many in each of several clusters that
            have a $B$ and an $a$ of their own, so that nothing is shared across them: `(4, 1)` is
            four related tasks and an outlier.
        rows: examples of each task; the first rows are the same for any number of rows.
        inputs: width of $x$.
        features: width of $h$.
        shared_features: $\rho_f$, between 0 and 1.
        shared_heads: $\rho_h$, between 0 and 1.
        noise: $\sigma$.
        same_inputs: every row is labelled for all tasks (multi-label data); otherwise each task
            has its own inputs (several data sets).
        linear: $h_t(x) = x B_t$, where $s_t = \lVert B_t a_t \rVert$ is exact; for tanh it is
            estimated from 10,000 further inputs.
    """
    clusters = (tasks,) if isinstance(tasks, int) else tuple(tasks)
    if not clusters or min(clusters) < 1:
        raise UsageError(f"tasks must be at least 1 in each cluster, not {tasks}.")
    check_counts(rows=rows, inputs=inputs, features=features)
    check_shares(shared_features=shared_features, shared_heads=shared_heads)
    reference = None if linear else reference_inputs(seed, inputs)
    x, noiseless, matrices, heads, targets = {}, {}, {}, {}, {}
    owners = [cluster for cluster, size in enumerate(clusters) for _ in range(size)]
    for number, cluster in enumerate(owners, start=1):
        name = f"task_{number}"
        matrix = (GAIN / sqrt(inputs)) * mixed(
            shared_features,
            standard_normal(generator(seed, "features", "cluster", cluster), inputs, features),
            standard_normal(generator(seed, "features", "task", number), inputs, features),
        )
        head = mixed(
            shared_heads,
            standard_normal(generator(seed, "head", "cluster", cluster), features, 1)[:, 0],
            standard_normal(generator(seed, "head", "task", number), features, 1)[:, 0],
        )
        x[name] = standard_normal(
            generator(seed, "inputs", 0 if same_inputs else number), rows, inputs
        )
        if reference is None:
            noiseless[name] = (x[name] @ matrix @ head / (matrix @ head).norm())[:, None]
        else:
            signal = partial(raw_signal, matrix=matrix, head=head)
            noiseless[name] = unit_variance(signal, x[name], reference)
        targets[name] = with_noise(noiseless[name], noise, generator(seed, "noise", number))
        matrices[name], heads[name] = matrix, head
    data = regressions(x["task_1"] if same_inputs else x, targets)
    return SyntheticDataset(data, noiseless, matrices, heads)


def layered_tasks(
    seed: int,
    *,
    tasks: int,
    rows: int,
    inputs: int = 20,
    features: int = 4,
    shared_upper: float = 0.0,
    shared_heads: float = 0.0,
    noise: float = 0.5,
) -> SyntheticDataset:
    r"""Regressions that share a lower layer of features, and what is above as far as dials say.

    With $x \sim N(0, I)$, for tasks $t = 1, 2, \dots$

    $$z(x) = \tanh(x B), \quad h_t(x) = \tanh(z(x)\, C_t), \quad
      C_t = \sqrt{\rho}\, C + \sqrt{1 - \rho}\, C_t^{\text{own}}, \quad
      a_t = \sqrt{\rho_h}\, a + \sqrt{1 - \rho_h}\, a_t^{\text{own}}, \quad
      y_t = h_t(x)\, a_t / s_t + \sigma \varepsilon,$$

    where the entries of $B$ are $N(0, 4/\text{inputs})$, those of $C$ and $C_t^{\text{own}}$ are
    $N(0, 4/\text{features})$, those of $a$, $a_t^{\text{own}}$ and $\varepsilon$ are $N(0, 1)$, and
    $s_t$ is the standard deviation of $h_t(x)\, a_t$, estimated from 10,000 further inputs. With
    $\rho = 0$ the tasks branch behind the lower layer; with $\rho = 1$ all their hidden features
    are the same.

    Arguments:
        seed: of everything drawn; a task's draws do not depend on how many tasks there are.
        tasks: how many, named `task_1`, `task_2`, ….
        rows: examples, each labelled for all tasks; the first rows are the same for any number.
        inputs: width of $x$.
        features: width of $z$ and of $h_t$.
        shared_upper: $\rho$, between 0 and 1.
        shared_heads: $\rho_h$, between 0 and 1.
        noise: $\sigma$.

    Returns:
        A data set whose `features` are the matrices $C_t$, from lower features to upper ones.
    """
    check_counts(tasks=tasks, rows=rows, inputs=inputs, features=features)
    check_shares(shared_upper=shared_upper, shared_heads=shared_heads)
    lower = (
        GAIN / sqrt(inputs) * standard_normal(generator(seed, "lower features"), inputs, features)
    )
    x = standard_normal(generator(seed, "inputs"), rows, inputs)
    z, reference = hidden(x, lower), hidden(reference_inputs(seed, inputs), lower)
    common = standard_normal(generator(seed, "upper features"), features, features)
    common_head = standard_normal(generator(seed, "head"), features, 1)[:, 0]
    noiseless, matrices, heads, targets = {}, {}, {}, {}
    for number in range(1, tasks + 1):
        name = f"task_{number}"
        own = standard_normal(generator(seed, "upper features", "task", number), features, features)
        matrix = GAIN / sqrt(features) * mixed(shared_upper, common, own)
        own_head = standard_normal(generator(seed, "head", "task", number), features, 1)[:, 0]
        head = mixed(shared_heads, common_head, own_head)
        signal = partial(raw_signal, matrix=matrix, head=head)
        noiseless[name] = unit_variance(signal, z, reference)
        targets[name] = with_noise(noiseless[name], noise, generator(seed, "noise", number))
        matrices[name], heads[name] = matrix, head
    return SyntheticDataset(regressions(x, targets), noiseless, matrices, heads)


def two_scales(
    seed: int,
    *,
    rows: int,
    scale: float = 10.0,
    inputs: int = 20,
    features: int = 4,
    shared_features: float = 1.0,
    classes: int = 3,
    noise: float = 0.5,
) -> SyntheticDataset:
    r"""A classification and a regression on the same input and features, one loss far larger.

    With $x \sim N(0, I)$, $h = \tanh(x B)$ and $h' = \tanh(x B')$,

    $$\text{label} = \arg\max_c\, (z_c + \sigma \varepsilon_c), \quad z = h' A, \qquad
      \text{value} = k\, (h a / s + \sigma \varepsilon), \qquad
      B' = \rho_f B + \sqrt{1 - \rho_f^2}\, B^{\text{own}},$$

    where $B$, $B^{\text{own}}$, $a$ and $s$ are as in `related_tasks` and each column of $A$ is
    scaled so that $z_c$ has variance 1. The mean squared error of `value` grows with the square of
    the dial $k$ while the cross-entropy of `label` and the difficulty of both tasks stay as they
    are. The second dial, the correlation $\rho_f$ between the entries of $B'$ and $B$, leaves
    `value` as it is: with $\rho_f = 0$ `label` needs other features (the negative control).

    Arguments:
        seed: of everything drawn.
        rows: examples, each labelled for both tasks; the first rows are the same for any number.
        scale: the dial $k$.
        inputs: width of $x$.
        features: width of $h$ and of $h'$.
        shared_features: the dial $\rho_f$, between 0 and 1.
        classes: width of $z$.
        noise: $\sigma$.

    Returns:
        A data set with the tasks `label` and `value`.
    """
    check_counts(rows=rows, inputs=inputs, features=features, classes=classes)
    if not scale > 0:
        raise UsageError(f"scale must be above 0, not {scale}.")
    check_shares(shared_features=shared_features)
    common, own = (
        GAIN
        / sqrt(inputs)
        * standard_normal(generator(seed, "features", *purpose), inputs, features)
        for purpose in ((), ("label",))
    )
    # Weights whose squares add up to 1 keep the entries' variance.
    matrices = {"label": mixed(shared_features**2, common, own), "value": common}
    heads = {
        "label": standard_normal(generator(seed, "head", "label"), features, classes),
        "value": standard_normal(generator(seed, "head", "value"), features, 1),
    }
    reference = reference_inputs(seed, inputs)
    x = standard_normal(generator(seed, "inputs"), rows, inputs)
    signal = {
        name: unit_variance(partial(raw_signal, matrix=matrices[name], head=head), x, reference)
        for name, head in heads.items()
    }
    noisy = {
        name: with_noise(clean, noise, generator(seed, "noise", name))
        for name, clean in signal.items()
    }
    data = MultiTaskData.multi_label(
        [Task.classification("label", classes), Task.regression("value")],
        x,
        {"label": noisy["label"].argmax(1), "value": scale * noisy["value"]},
    )
    noiseless = {"label": signal["label"].argmax(1), "value": scale * signal["value"]}
    return SyntheticDataset(data, noiseless, matrices, heads)
