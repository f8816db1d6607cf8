r"""What section 3.2 trains: from separate networks to one, by gradient descent and proximal maps.

Every contestant takes plain gradient steps on all training rows; after each step a penalty may pull
the tasks' networks together by its proximal map. Each task stops, and later chooses among a
contestant's trials, by its own validation labels.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mtlbook.book.experiments.networks import dense, hard_sharing
from mtlbook.book.experiments.training import search
from mtlbook.book.page import Page
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.sharing.hard import HardSharing
from mtlbook.sharing.soft import SoftSharing, SquaredDistance, stacked_parameters
from mtlbook.training.context import StepContext
from mtlbook.training.fit import Data
from mtlbook.training.results import Fit
from mtlbook.training.sampling import Mixed
from mtlbook.training.selection import Selected, select

HIDDEN_LAYERS = 2
ALL_LAYERS = HIDDEN_LAYERS + 1  # the output layer, too: one network for all tasks


def network(
    data: MultiTaskData,
    seed: int,  # noqa: ARG001
    *,
    width: int = 16,
    shared_layers: int = 0,
) -> HardSharing:
    """Two hidden layers and an output layer, of which the first few are shared by all tasks.

    The output layer is the last layer of a branch, so that all of a task's network is in one place,
    and the branches start from equal weights, so that distances between them mean something.

    Arguments:
        data: a seed's data, with the tasks that are trained.
        seed: what every `build` is given, too.
        width: units of each hidden layer.
        shared_layers: 0 for separate networks, 3 for one network.
    """
    tasks, outputs = data.tasks, data.tasks[0].outputs
    hidden = dense(data.inputs.shape[1], width, width)
    return hard_sharing(
        lambda: [*hidden(), nn.Linear(width, outputs)],
        tasks,
        outputs,
        branch_at=shared_layers,
        same_start=True,
        head=lambda *_: nn.Identity(),
    )


def descent(
    named: list[tuple[str, Tensor]], *, step_size: float, weight_decay: float, tasks: int
) -> torch.optim.Optimizer:
    """Gradient descent that treats shared layers as tied ones.

    Shared layers receive the gradients of all tasks. They take 1 / T of the step, with T times the
    weight decay, which is the step that T layers pulled together with λ = ∞ take.

    Arguments:
        named: the parameters by name.
        step_size: η, of the layers that belong to a task.
        weight_decay: of the same layers.
        tasks: T.
    """
    shared = [values for name, values in named if ".trunk." in name]
    own = [values for name, values in named if ".trunk." not in name]
    groups = [
        {"params": own, "lr": step_size, "weight_decay": weight_decay},
        {"params": shared, "lr": step_size / tasks, "weight_decay": tasks * weight_decay},
    ]
    return torch.optim.SGD([group for group in groups if group["params"]])


def pull(
    model: nn.Module, context: StepContext, *, penalty: SoftSharing, step_size: float
) -> dict[str, Tensor]:
    """What follows a gradient step: the proximal map of a penalty."""
    del context  # its learning rate is that of the first group, which may be the shared layers'
    return penalty.proximal(model, step_size)


@dataclass(frozen=True)
class Contest:
    """A data set on which contestants are trained alike.

    Arguments:
        page: whose seeds and device are used.
        data: the data, or a function from a seed to its data.
        tasks: how many it has.
        split: rows of each task.
        step_size: η of the gradient steps.
        steps: of gradient descent.
        width: units of each hidden layer.
        scale: of all strengths and weight decays that are tried; results are named without it.
        seeds: others than the page's.
    """

    page: Page
    data: Data
    tasks: int
    split: Holdout
    step_size: float = 0.3
    steps: int = 50
    width: int = 16
    scale: float = 1.0
    seeds: Sequence[int] | None = None

    def decayed(self, weight_decays: Iterable[float], shared_layers: int = 0) -> dict[float, Fit]:
        """A training for each weight decay, of networks that share their first layers outright."""
        trials = {decay: self._trial(self.scale * decay) for decay in weight_decays}
        return self._search(trials, shared_layers)

    def pulled(
        self,
        kind: Callable[[float], SoftSharing],
        strengths: Iterable[float],
        *,
        weight_decay: float = 0.0,
        shared_layers: int = 0,
    ) -> dict[float, Fit]:
        """A training for each strength of a penalty on the layers that are not shared outright.

        Arguments:
            kind: makes the penalty from its strength λ.
            strengths: the values of λ.
            weight_decay: of the networks; a distance does not shrink what they have in common.
            shared_layers: how many of the first layers are shared outright.
        """
        decay = self.scale * weight_decay
        trials = {own: self._trial(decay, kind(self.scale * own)) for own in strengths}
        return self._search(trials, shared_layers)

    def _trial(self, weight_decay: float, penalty: SoftSharing | None = None) -> dict[str, Any]:
        steps = {"step_size": self.step_size, "weight_decay": weight_decay, "tasks": self.tasks}
        trial: dict[str, Any] = {"optimiser": partial(descent, **steps)}
        if penalty is not None:
            trial["after_step"] = partial(pull, penalty=penalty, step_size=self.step_size)
        return trial

    def _search(self, trials: dict[float, dict[str, Any]], shared_layers: int) -> dict[float, Fit]:
        settings: dict[str, Any] = {
            "split": self.split,
            "steps": self.steps,
            "width": self.width,
            "shared_layers": shared_layers,
            "sampler": Mixed(None),
            "validate_every": 5,
            "stopping": "each",
            "evaluate_on": ("validation", "test"),
        }
        named = {f"{value:g}": trial for value, trial in trials.items()}
        found = search(self.page, network, self.data, named, seeds=self.seeds, **settings)
        return dict(zip(trials, found.values(), strict=True))


def chosen(*contests: Mapping[float, Fit]) -> Selected:
    """A contestant: each task's best trial by its own validation labels.

    Arguments:
        *contests: trainings by weight decay or strength; of several, all are to choose from, and
            the second contest's names end in a prime, the third's in two.
    """
    return select(
        {
            symbol(value) + "′" * place: fit
            for place, trials in enumerate(contests)
            for value, fit in trials.items()
        },
        each_task=True,
    )


def symbol(strength: float) -> str:
    """A strength as a table has it.

    Example:
        >>> symbol(0.3), symbol(float("inf"))
        ('0.3', '∞')
    """
    return "∞" if strength == float("inf") else f"{strength:g}"


def choices(selected: Selected, names: Iterable[str]) -> list[float]:
    """How often seeds and tasks chose each trial, as shares."""
    made = selected.choices.to_numpy()
    return [float((made == name).mean()) for name in names]


@torch.no_grad()
def look_into(model: nn.Module) -> dict[str, float]:
    """How alike the tasks' networks are, over all parameters that they do not share outright.

    Returns:
        `distance`: the root of the mean squared distance of two networks over that of their length;
        `equal`: the share of parameters that are exactly equal in all tasks; `rank`: the rank of
        the first layer's weights, parameters × tasks.
    """
    stacks = [stack.flatten(0, -2) for stack in stacked_parameters(model, ["branches"]).values()]
    flat = torch.cat(stacks)  # (parameters, tasks)
    tasks = flat.shape[-1]
    apart = SquaredDistance(1.0).measure(flat) / (tasks * (tasks - 1) / 2)
    length = flat.square().sum(0).mean().clamp(min=1e-12)
    return {
        "distance": float((apart / length).sqrt()),
        "equal": float((flat == flat[:, :1]).all(1).double().mean()),
        "rank": float(torch.linalg.matrix_rank(stacks[0])),
    }
