r"""Section 4.2, attention focusing: other tasks show which inputs matter, where one cannot tell.

A task with few examples and many inputs can hardly tell the relevant inputs from those that fit it
by chance. Tasks that use the same inputs, in whatever way, give further evidence of which ones
matter, and a layer that all share turns to them (Caruana, 1997, section 3, where the mechanism is
called *attribute selection*; Ruder, 2017, section 4.2). In a linear model this is the selection of
rows that tasks have in common, the group lasso of section 5.1.

`focused_tasks` makes data in which this mechanism is alone at work, with a dial.
`squared_weights` and `sensitivities` say how much attention a network pays to each input, `share`
and `precision` how much of it lies on the inputs that matter.
"""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mtlbook.data.synthetic import (
    SyntheticDataset,
    check_counts,
    check_noise,
    raw_signal,
    reference_inputs,
    regressions,
    shared_count,
    unit_variance,
    with_noise,
)
from mtlbook.errors import UsageError
from mtlbook.randomness import generator, standard_normal

# Inputs that no learner sees: they give each task's signal its variance of 1.
_REFERENCE_ROWS = 4096


def focused_tasks(
    seed: int,
    *,
    tasks: int = 6,
    rows: int,
    relevant: int = 4,
    inputs: int = 40,
    overlap: float = 1.0,
    features: int = 3,
    noise: float = 0.5,
) -> SyntheticDataset:
    r"""Regressions on few of many inputs, of which a share κ is the same for all tasks.

    With $x \sim N(0, I)$ and $R_t$ the relevant inputs of task $t = 0, 1, \dots$

    $$y_t = \frac{1}{s_t} \tanh(x_{R_t} B_t)\, a_t + \sigma \varepsilon_t, \qquad
      R_t = \{\pi(k) : k < m\} \cup \{\pi(m + t(s - m) + k) : k < s - m\},$$

    where $\pi$ is a random order of the inputs and $s$ the number that a task uses, $m = \kappa s$
    of which are those that all tasks use. The entries of $B_t$ and $a_t$ are $N(0, 1)$, each task's
    own, and $s_t$ gives the signal a variance of 1, so that $\sigma^2$ is the least possible error.
    The tasks' features, heads and noise have nothing in common: with κ = 1 what the tasks share is
    which inputs they use, and nothing else; with κ = 0 no two tasks use the same input: that is the
    negative control. The difficulty of a task alone is the same for every κ.

    Every row has the labels of all tasks. Everything is drawn per `(seed, purpose)`: a further task
    leaves the earlier ones as they were, and fewer rows are the first rows of more.

    Arguments:
        seed: of everything drawn.
        tasks: how many, T.
        rows: examples.
        relevant: s, how many inputs each task uses.
        inputs: width of $x$; with it grows the number of irrelevant inputs.
        overlap: the dial κ, between 0 and 1, at a multiple of 1 / s.
        features: columns of $B_t$.
        noise: σ.

    Example:
        >>> made = focused_tasks(0, tasks=3, rows=5, relevant=4, inputs=20, overlap=0.5)
        >>> tuple(made.data.inputs.shape), int(made.relevant_to_any.sum())
        ((5, 20), 8)
    """
    check_counts(tasks=tasks, rows=rows, relevant=relevant, inputs=inputs, features=features)
    shared = shared_count(overlap, relevant, "relevant inputs")
    used = shared + tasks * (relevant - shared)
    if used > inputs:
        raise UsageError(
            f"{tasks} tasks with {relevant} relevant inputs each, {shared} of them in common, use "
            f"{used} inputs, of which there are {inputs}: lower tasks or relevant, or raise inputs."
        )
    check_noise(noise)
    order = torch.randperm(inputs, generator=generator(seed, "order of inputs"))
    reference = reference_inputs(seed, relevant, rows=_REFERENCE_ROWS)
    x = standard_normal(generator(seed, "inputs"), rows, inputs)
    noiseless, targets, masks = {}, {}, {}
    for number in range(tasks):
        own = torch.arange(relevant)
        own[shared:] += number * (relevant - shared)
        turned = standard_normal(generator(seed, "features", number), relevant, features)
        head = standard_normal(generator(seed, "head", number), features, 1)
        name = f"task_{number + 1}"
        signal = partial(raw_signal, matrix=turned, head=head)
        noiseless[name] = unit_variance(signal, x[:, order[own]], reference)
        targets[name] = with_noise(noiseless[name], noise, generator(seed, "noise", number))
        masks[name] = torch.isin(torch.arange(inputs), order[own])
    return SyntheticDataset(regressions(x, targets), noiseless, relevant=masks)


def squared_weights(
    weight: Float[Tensor, "*networks hidden inputs"],
) -> Float[Tensor, "*networks inputs"]:
    r"""The squared length of each input's weights, $\lVert w_j \rVert^2 = \sum_h W_{hj}^2$.

    Example:
        >>> squared_weights(torch.tensor([[3.0, 0.0], [4.0, 1.0]]))
        tensor([25.,  1.])
    """
    return weight.square().sum(-2)


def sensitivities(
    predict: Callable[[Tensor], Tensor], inputs: Float[Tensor, "examples inputs"]
) -> Float[Tensor, "outputs inputs"]:
    r"""How much outputs change with inputs, $\nu_{tj} = E_x (\partial f_t / \partial x_j)^2$.

    The mean over examples of the squared input gradient is the *derivative-based global sensitivity
    measure* of Sobol' and Kucherenko (2009), who show that for independent normal inputs of
    variance 1 it is at least the part of $f_t$'s variance that involves $x_j$. Of a linear function
    it is the squared weight.

    Arguments:
        predict: maps examples one by one to `(examples, outputs)`.
        inputs: where the gradients are taken, such as the test inputs.

    Example:
        >>> sensitivities(lambda x: x[:, :1] * x[:, 1:], torch.tensor([[1.0, 2.0], [3.0, 0.0]]))
        tensor([[2., 5.]])
    """
    places = inputs.detach().clone().requires_grad_()
    predicted = predict(places)
    return torch.stack(
        [
            torch.autograd.grad(output.sum(), places, retain_graph=True)[0].square().mean(0)
            for output in predicted.T
        ]
    )


def share(
    attention: Float[Tensor, "*outputs inputs"], relevant: Bool[Tensor, "*outputs inputs"]
) -> Float[Tensor, "*outputs"]:
    """The share of the attention that lies on the relevant inputs.

    Attention without any preference has the share of the relevant inputs among all; attention to
    nothing else has 1. No attention at all (all weights are 0) counts as one without preference.

    Example:
        >>> share(torch.tensor([6.0, 1.0, 1.0]), torch.tensor([True, False, False]))
        tensor(0.7500)
    """
    relevant = relevant.to(attention.device)
    total = attention.sum(-1)
    found = (attention * relevant).sum(-1)
    none = total == 0
    chance = relevant.to(attention.dtype).mean(-1)
    return torch.where(none, chance, found / torch.where(none, 1.0, total))


def precision(
    attention: Float[Tensor, "*outputs inputs"], relevant: Bool[Tensor, "*outputs inputs"]
) -> Float[Tensor, "*outputs"]:
    """The share of relevant ones among the s inputs with most attention, s the number relevant.

    Inputs with no attention at all are not among them.

    Example:
        >>> attention = torch.tensor([6.0, 1.0, 5.0, 2.0])
        >>> precision(attention, torch.tensor([True, True, False, False]))
        tensor(0.5000)
    """
    relevant = relevant.to(attention.device)
    count = int(relevant.sum(-1).max())
    if not bool((relevant.sum(-1) == count).all()):
        raise UsageError("Every output needs equally many relevant inputs for their precision.")
    found = attention.topk(count)
    marks = relevant.expand_as(attention).gather(-1, found.indices) & (found.values > 0)
    return marks.to(attention.dtype).mean(-1)
