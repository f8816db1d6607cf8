"""Descent on the mean of the losses for a shared trunk, on its own loss for each head."""

from collections.abc import Iterable

import torch
from torch import Tensor

from mtlbook.errors import UsageError
from mtlbook.sharing.input_lasso import InputLasso


def mean_loss_descent(
    named: Iterable[tuple[str, Tensor]],
    *,
    step_size: float,
    tasks: int,
    weight_decay: float = 0.0,
    lasso: InputLasso | None = None,
) -> torch.optim.Optimizer:
    r"""Plain gradient descent in which a shared trunk is trained on the *mean* of the losses.

    Each head takes the step η along the gradient of its own $L_t + \frac\mu2 \lVert a_t \rVert^2$,
    the trunk takes it along that of $\frac1T \sum_t L_t + \frac\mu2 \lVert W \rVert^2$. A trunk of
    one task and one of many thus take steps of like length, and the same decay, or the same lasso,
    weighs as much against the data. With the sum of the losses, which `fit` minimises, that is a
    step of η / T and a decay of T μ for the trunk. Each step ends with the lasso's proximal map.

    Gradient descent in its plain form, since an optimiser that gives each weight a step length of
    its own (Adam) moves the weights of irrelevant inputs as fast as the others.

    Arguments:
        named: parameters; those of a shared trunk have a component `trunk` in their names, as
            `trunk.0.weight` and `model.trunk.0.weight` have.
        step_size: η.
        tasks: T.
        weight_decay: μ.
        lasso: of the first layer, or None.

    Raises:
        UsageError: for several tasks without a parameter of a trunk.
    """
    named = list(named)
    trunk = [values for name, values in named if "trunk" in name.split(".")]
    others = [values for name, values in named if "trunk" not in name.split(".")]
    if tasks > 1 and not trunk:
        raise UsageError(
            f"{tasks} tasks share no parameter with a component trunk in its name: name the shared "
            "module trunk, or train separate networks with tasks=1."
        )
    groups = [
        {"params": others, "lr": step_size, "weight_decay": weight_decay},
        {"params": trunk, "lr": step_size / tasks, "weight_decay": tasks * weight_decay},
    ]
    optimiser = torch.optim.SGD([group for group in groups if group["params"]])
    if lasso is not None:
        # Here on the stacked weights of all seeds: a map of whole models, seed by seed under vmap,
        # takes a quarter of the training of networks this small.
        optimiser.register_step_post_hook(lambda *_: lasso.pull(named, step_size))
    return optimiser
