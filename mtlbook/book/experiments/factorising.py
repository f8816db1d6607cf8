"""Section 6.7's contestants: the tasks' networks, factors of their stack, and networks that split.

Everyone takes equally many steps, the single-task stage included. Single-task networks, the best
split and the factors from single-task networks have six trials; factors of rank K have four,
whether they start from single-task networks or at random.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mtlbook.architectures.tensor_factorisation import TensorFactorisation
from mtlbook.book.experiments.networks import Stages, hard_sharing, linear_head
from mtlbook.book.experiments.training import adamw
from mtlbook.data import embedded
from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.metrics import Metric
from mtlbook.sharing.hard import HardSharing
from mtlbook.tasks import Numbers, Task
from mtlbook.training.results import Fit
from mtlbook.training.selection import Selected, select

FIRST_RATES = (0.01, 0.03)  # of the single-task stage
MORE_RATES = (0.003, 0.01, 0.03, 0.06)  # of the single-task networks that go on
FACTOR_RATES = (0.01, 0.03)  # of factors that go on from single-task networks
RANDOM_RATES = (0.003, 0.01, 0.03, 0.06)  # of factors from random initial weights
SPLIT_RATES = (0.03, 0.01, 0.06)  # of networks that split: six trials in all, or two each
ERROR = 0.1  # the paper's ε

ONE_VERSUS_REST = tuple(f"is_{digit}" for digit in range(10))

# From a network, trials and settings to each trial's training.
Train = Callable[..., Mapping[str, Fit]]


@dataclass(frozen=True, kw_only=True)
class Networks:
    """The tasks' networks, which have equal shapes, and how they are trained.

    Attributes:
        hidden: makes the hidden layers of one task's network, from the input on.
        width: features that the last of them gives to the output layer.
        wide: by hidden layers of another width, with as many parameters as the factors have; None
            for no such rival.
        wide_width: features that the last of those gives.
        stack_last: whether the output layers are stacked, too: they have equal shapes.
        rank: K of the task axis, beside the ranks that ε asks for.
        form: of the factors.
        steps: of the single-task stage.
        more_steps: of what follows.
        decay: of the weights, by AdamW.
    """

    hidden: Stages
    width: int
    wide: Stages | None = None
    wide_width: int = 0
    stack_last: bool = True
    rank: int = 3
    form: str = "LAF"
    steps: int = 80
    more_steps: int = 160
    decay: float = 1.0

    @property
    def depth(self) -> int:
        """How many hidden layers there are."""
        return len(self.hidden())

    def rates(self, *rates: float) -> dict[str, dict[str, Any]]:
        """A trial for each learning rate."""
        return {f"rate {rate:g}": {"optimiser": adamw(rate, self.decay)} for rate in rates}


def single_task(train: Train, networks: Networks) -> tuple[Selected, Selected]:
    """A network for each task, all from equal initial weights: after the first stage, and both."""
    build = partial(_split, networks=networks, shared=0)
    own = {"stopping": "each"}
    first = train(build, networks.rates(*FIRST_RATES), steps=networks.steps, **own)
    chosen = select(first, each_task=True)
    start = partial(_go_on, chosen)
    trials, steps = networks.rates(*MORE_RATES), networks.more_steps
    more = train(build, trials, steps=steps, start=start, **own)
    return chosen, select(more, each_task=True)


def factorised(train: Train, networks: Networks, start: Selected) -> dict[str, Selected]:
    """Factors of the single-task networks: of rank K, of the ranks of ε, and the best of both."""
    found: dict[str, Mapping[str, Fit]] = {}
    for name, rank, error in (("rank K", networks.rank, 0.0), ("ranks of ε", None, ERROR)):
        found[name] = train(
            partial(_factors, networks=networks, rank=rank),
            networks.rates(*FACTOR_RATES),
            steps=networks.more_steps,
            start=partial(_factorise, start, networks.stack_last, error),
        )
    return _best("factorised", found)


def random_start(train: Train, networks: Networks) -> Selected:
    """Factors of rank K from random initial weights, trained for all steps."""
    build = partial(_factors, networks=networks, rank=networks.rank)
    steps = networks.steps + networks.more_steps
    return select(train(build, networks.rates(*RANDOM_RATES), steps=steps))


def splits(train: Train, networks: Networks) -> dict[str, Selected]:
    """One network that shares its first layers, at each depth and in the wide form."""
    whole = networks.steps + networks.more_steps
    built = {f"split after {k}": (networks, k) for k in range(1, networks.depth)}
    built["hard sharing"] = (networks, networks.depth)
    if networks.wide is not None:
        other = replace(networks, hidden=networks.wide, width=networks.wide_width)
        built["wide hard sharing"] = (other, networks.depth)
    found = {
        name: train(
            partial(_split, networks=own, shared=shared),
            networks.rates(*SPLIT_RATES[: max(2, 6 // len(built))]),
            steps=whole,
        )
        for name, (own, shared) in built.items()
    }
    return _best("best split", found)


def contestants(train: Train, networks: Networks, *, every: bool = True) -> dict[str, Selected]:
    """All of them by name; or only those that start from single-task networks."""
    start, alone = single_task(train, networks)
    found = {"first stage": start, "single-task": alone, **factorised(train, networks, start)}
    if every:
        found["random start, rank K"] = random_start(train, networks)
        found |= splits(train, networks)
    return found


def _best(name: str, found: Mapping[str, Mapping[str, Fit]]) -> dict[str, Selected]:
    """Each network's own choice among its trials, and the choice among all trials."""
    every = {f"{what}, {trial}": fit for what, own in found.items() for trial, fit in own.items()}
    return {name: select(every)} | {what: select(own) for what, own in found.items()}


def _split(data: MultiTaskData, _seed: int, *, networks: Networks, shared: int) -> HardSharing:
    return hard_sharing(
        networks.hidden, data.tasks, networks.width, branch_at=shared, same_start=not shared
    )


def _factors(
    data: MultiTaskData, _seed: int, *, networks: Networks, rank: int | None
) -> TensorFactorisation:
    def stages() -> list[nn.Module]:
        last = [linear_head(networks.width, data.tasks[0])] if networks.stack_last else []
        return [*networks.hidden(), *last]

    heads = {
        task.name: nn.Identity() if networks.stack_last else linear_head(networks.width, task)
        for task in data.tasks
    }
    return TensorFactorisation(stages, heads, form=networks.form, ranks=rank)


@cache
def networks_of(
    trained: Selected, seed: int, *, with_heads: bool = True
) -> dict[str, nn.Sequential]:
    """Each task's trained network, its head as the last layer or left out."""
    found = {}
    for task in trained.choices.columns:
        fit = trained.fits[str(trained.choices.loc[seed, task])]
        parts = [f"branches.{task}", *[f"heads.{task}"][: int(with_heads)]]
        branch, *head = (_part(fit, seed, task, part) for part in parts)
        assert isinstance(branch, nn.Sequential)
        found[task] = nn.Sequential(*branch, *head)
    return found


def _part(fit: Fit, seed: int, task: str, part: str) -> nn.Module:
    """A copy of a part of a trained network; copies of whole networks take many times as long."""
    number = fit.seeds.index(seed)
    for kept in fit.kept[task]:
        if number < len(kept.modules):
            copy = deepcopy(kept.modules[number].get_submodule(part)).cpu()
            own = {name: values[number] for name, values in kept.state.items()}
            prefix = f"{part}."
            copy.load_state_dict(
                {n.removeprefix(prefix): v for n, v in own.items() if n.startswith(prefix)}
            )
            return copy.eval().requires_grad_(False)
        number -= len(kept.modules)
    raise AssertionError("every seed belongs to a group")


def _go_on(trained: Selected, model: nn.Module, seed: int) -> None:
    """Give a network of separate branches those of single-task networks."""
    for name, network in networks_of(trained, seed).items():
        own = nn.Sequential(*model.get_submodule(f"branches.{name}").children())
        own.append(model.get_submodule(f"heads.{name}"))
        own.load_state_dict(network.state_dict())


def _factorise(
    trained: Selected, stack_last: bool, error: float, model: nn.Module, seed: int
) -> None:
    """Start the factors from single-task networks."""
    assert isinstance(model, TensorFactorisation)
    model.factorise(networks_of(trained, seed, with_heads=stack_last), error=error)
    if not stack_last:
        for name, network in networks_of(trained, seed).items():
            model.heads[name].load_state_dict(network[-1].state_dict())


# One digit against the rest -----------------------------------------------------------------------


def _balanced_logistic(
    prediction: Float[Tensor, "examples 1"], target: Float[Tensor, "examples 1"]
) -> Float[Tensor, " examples"]:
    """The logistic loss, in which a positive counts as nine negatives."""
    weight = prediction.new_tensor(9.0)
    each = F.binary_cross_entropy_with_logits(
        prediction, target, reduction="none", pos_weight=weight
    )
    return each[:, 0]


def _balanced_error(prediction: Tensor, target: Tensor) -> Tensor:
    said, true = prediction > 0, target > 0.5
    missed = (~said & true).double().sum() / true.double().sum()
    false_alarms = (said & ~true).double().sum() / (~true).double().sum()
    return (missed + false_alarms) / 2


@cache
def one_versus_rest() -> MultiTaskData:
    """The embedded digits: ten binary tasks, `is_0` to `is_9`, by their balanced error; `digit`."""
    data = embedded.digits(*ONE_VERSUS_REST, "digit")
    metric = Metric("balanced error", False, _balanced_error)
    targets = Numbers(values="0 or 1", must_vary=True)
    tasks = [
        Task.custom(task.name, 1, _balanced_logistic, metric, targets=targets, kind="binary")
        for task in data.tasks[:-1]
    ]
    return MultiTaskData.multi_label([*tasks, data.tasks[-1]], data.inputs, data.targets)


def of_softmax(trained: Selected) -> Float[np.ndarray, "seeds digits"]:
    """The balanced errors of one 10-way softmax that says yes where a digit's probability is > 0.1.

    Arguments:
        trained: on the task `digit` of `one_versus_rest`.
    """
    found = []
    for place, seed in enumerate(trained.choices.index):
        fit = trained.fits[str(trained.choices.loc[seed, "digit"])]
        probability = torch.from_numpy(fit.predictions["digit"][place]).softmax(1)
        labels = one_versus_rest().targets["digit"][torch.from_numpy(fit.test[place])]
        found.append(
            [
                float(_balanced_error(probability[:, digit] - 0.1, (labels == digit).double()))
                for digit in range(10)
            ]
        )
    return np.array(found)
