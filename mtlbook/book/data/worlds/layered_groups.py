r"""Home of fully-adaptive feature sharing (section 6.2): groups of tasks that share an upper layer.

All tasks share a lower layer of features, and those of a group a second one above it. One trunk for
all has too little in common above, a branch for each task too few labels.
"""

from collections.abc import Sequence
from functools import partial
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.data.synthetic import (
    GAIN,
    SyntheticDataset,
    check_counts,
    check_noise,
    check_shares,
    hidden,
    mixed,
    reference_inputs,
    unit_variance,
)
from mtlbook.errors import UsageError
from mtlbook.randomness import generator, standard_normal
from mtlbook.tasks import Task


def layered_groups(
    seed: int,
    *,
    rows: int,
    tasks: int = 8,
    groups: int = 3,
    inputs: int = 20,
    features: int = 4,
    shared_upper: float = 0.8,
    noise: float = 0.1,
) -> SyntheticDataset:
    r"""Binary tasks on the same rows, in groups that share the upper of two layers of features.

    With $x \sim N(0, I)$, for tasks $t = 1, 2, \dots$ in groups $g(t)$

    $$z(x) = \tanh(x B), \quad
      q_g(x) = \tanh(z(x)\, u_g) \tanh(z(x)\, v_g), \quad
      s_t = \sqrt{\rho}\, q_{g(t)} + \sqrt{1 - \rho}\, z(x)\, a_t, \quad
      y_t = 1[s_t + \sigma \varepsilon > 0],$$

    where the entries of $B$ are $N(0, 4/\text{inputs})$, those of $a_t$ and $\varepsilon$ are
    $N(0, 1)$, and $u_g, v_g$ are orthogonal, of length 2 and of random direction. $q_g$ and
    $z\, a_t$ are scaled to variance 1 by 10,000 further inputs. $q_g$ is a smooth XOR, which takes
    a network about four hidden units on top of $z$.

    Arguments:
        seed: of everything drawn; a task's own draws do not depend on how many tasks there are.
        rows: examples, each labelled for all tasks; the first rows are the same for any number.
        tasks: how many, named `task_1`, `task_2`, ….
        groups: among how many groups they are divided, the first ones the larger (`group_of`). One
            group is the negative control: then all tasks share both layers.
        inputs: width of $x$.
        features: width of $z$, at least 2.
        shared_upper: $\rho$, between 0 and 1: the share of $q_g$ in the tasks of a group.
        noise: $\sigma$.

    Returns:
        A data set whose `features` are the matrices $(u_g, v_g)$.

    Raises:
        UsageError: for more groups than tasks.

    Example:
        >>> made = layered_groups(0, rows=5, tasks=4, groups=2)
        >>> bool((made.features["task_1"] == made.features["task_2"]).all())
        True
        >>> bool((made.features["task_2"] == made.features["task_3"]).any())
        False
    """
    check_counts(rows=rows, inputs=inputs)
    check_counts(2, features=features)
    check_shares(shared_upper=shared_upper)
    check_noise(noise)
    of_task = group_of(tasks, groups)
    lower = GAIN / sqrt(inputs) * standard_normal(generator(seed, "lower"), inputs, features)
    x = standard_normal(generator(seed, "inputs"), rows, inputs)
    z, reference = hidden(x, lower), hidden(reference_inputs(seed, inputs), lower)
    both = torch.cat([z, reference])
    noiseless, matrices, targets, least = {}, {}, {}, {}
    for number, group in enumerate(of_task, start=1):
        name = f"task_{number}"
        drawn = standard_normal(generator(seed, "upper", group), features, features)
        matrices[name] = GAIN * torch.linalg.qr(drawn)[0][:, :2]
        head = standard_normal(generator(seed, "head", number), features, 1)[:, 0]
        common = unit_variance(partial(_smooth_xor, matrix=matrices[name]), both, reference)
        own = unit_variance(partial(torch.matmul, other=head), both, reference)
        signal = mixed(shared_upper, common, own)
        noiseless[name] = signal[:rows]
        error = noise * standard_normal(generator(seed, "noise", number), rows, 1)
        targets[name] = (noiseless[name] + error > 0).double()[:, 0]
        least[name] = _entropy(signal[rows:], noise)
    data = MultiTaskData.multi_label([Task.binary(name) for name in targets], x, targets)
    return SyntheticDataset(data, noiseless, matrices, least_loss=least)


def _smooth_xor(
    z: Float[Tensor, "rows features"], matrix: Float[Tensor, "features 2"]
) -> Float[Tensor, " rows"]:
    """tanh(z u) tanh(z v): positive where z u and z v have one sign."""
    return torch.tanh(z @ matrix).prod(1)


def group_of(tasks: int, groups: int) -> Sequence[int]:
    """The group of each task, counted from 0: consecutive tasks, the first groups the larger.

    Example:
        >>> group_of(8, 3)
        [0, 0, 0, 1, 1, 1, 2, 2]
    """
    check_counts(tasks=tasks, groups=groups)
    if groups > tasks:
        raise UsageError(f"{groups} groups need at least as many tasks, and there are {tasks}.")
    parts = torch.arange(tasks).tensor_split(groups)
    return [group for group, part in enumerate(parts) for _ in part]


def _entropy(signal: Float[Tensor, "rows 1"], noise: float) -> float:
    """The mean entropy, in nats, of labels 1[signal + σ ε > 0]."""
    if not noise:
        return 0.0
    positive = torch.special.ndtr(signal / noise)
    nats = torch.special.entr(positive) + torch.special.entr(1 - positive)
    return float(nats.mean())
