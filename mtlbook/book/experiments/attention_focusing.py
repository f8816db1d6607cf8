"""Section 4.2's experiment: real questions, copies of a task, equal trials, attention."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from mtlbook.book.data.disguised import disguised
from mtlbook.book.experiments.mean_loss_descent import mean_loss_descent
from mtlbook.book.experiments.networks import mlp
from mtlbook.book.experiments.results import trained_network
from mtlbook.book.experiments.training import search
from mtlbook.book.page import Page
from mtlbook.data import embedded
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.data.synthetic import SyntheticDataset
from mtlbook.mechanisms.attention_focusing import precision, sensitivities, share, squared_weights
from mtlbook.sharing.input_lasso import InputLasso
from mtlbook.tasks import Task
from mtlbook.training.sampling import Mixed
from mtlbook.training.selection import Selected, select

# How the name of a first layer's weights ends, in the trunk or in a branch.
FIRST_LAYER = "0.0.weight"


@dataclass(frozen=True)
class Trial:
    """The settings of one training: gradient descent, with a lasso over the inputs or without."""

    width: int = 8
    step_size: float = 0.3
    weight_decay: float = 0.01
    lasso: float = 0.0

    def settings(self, tasks: int) -> dict[str, Any]:
        """Width and optimiser for a first layer that so many tasks share."""
        lasso = InputLasso([FIRST_LAYER], self.lasso) if self.lasso else None
        optimiser = partial(
            mean_loss_descent,
            step_size=self.step_size,
            weight_decay=self.weight_decay,
            tasks=tasks,
            lasso=lasso,
        )
        return {"width": self.width, "optimiser": optimiser}


def digit_questions() -> MultiTaskData:
    """Six questions about handwritten digits of 4 × 4 averaged pixels, answered 0 or 1."""
    names = ["parity", "loop", "above_four", "is_1", "is_4", "is_7"]
    table = embedded.digits(*names)
    pixels = table.inputs.view(-1, 4, 2, 4, 2).mean((2, 4)).flatten(1)
    tasks = [Task.regression(name) for name in names]
    return MultiTaskData.multi_label(tasks, pixels, table.targets)


def blood_questions() -> MultiTaskData:
    """Six blood measures and the progression of diabetes, from age, sex, mass and pressure."""
    table = embedded.diabetes()
    names = ["tc", "ldl", "hdl", "tch", "ltg", "glu"]
    targets = dict(zip(names, table.inputs[:, 4:].unbind(1), strict=True)) | table.targets
    tasks = [Task.regression(name) for name in targets]
    return MultiTaskData.multi_label(tasks, table.inputs[:, :4], targets)


def copies(data: MultiTaskData, task: str) -> MultiTaskData:
    """Every task becomes a copy of one: as many tasks, and no evidence beyond that of this one.

    Names, and with them the split of a seed, stay as they were.

    Example:
        >>> x, y = torch.zeros(2, 3), {"a": torch.zeros(2), "b": torch.ones(2)}
        >>> data = MultiTaskData.multi_label([Task.regression(name) for name in y], x, y)
        >>> copies(data, "b").targets["a"].flatten().tolist()
        [1.0, 1.0]
    """
    (own,) = (one for one in data.tasks if one.name == task)
    names = [one.name for one in data.tasks]
    return replace(
        data,
        tasks=tuple(replace(own, name=name) for name in names),
        targets=dict.fromkeys(names, data.targets[task]),
        labelled=dict.fromkeys(names, data.labelled[task]),
    )


def first_layer(model: nn.Module, task: str) -> Float[torch.Tensor, "hidden inputs"]:
    """The weights of the first layer that a task uses, shared or its own."""
    weights = dict(model.named_parameters())
    shared = f"trunk.{FIRST_LAYER}"
    return weights[shared if shared in weights else f"branches.{task}.{FIRST_LAYER}"]


def attention(
    selected: Selected, world: Callable[[int], SyntheticDataset]
) -> Float[np.ndarray, "seeds tasks"]:
    """The share of the first layer's squared weights on each task's relevant inputs.

    Arguments:
        selected: the chosen trials of networks for the tasks of `world`.
        world: a seed's data with its relevant inputs.
    """

    def measured(seed: int, task: str) -> float:
        weights = squared_weights(first_layer(trained_network(selected, seed, task), task))
        return float(share(weights, world(seed).relevant[task]))

    return _of_each(selected, measured)


def most_sensitive(
    selected: Selected, world: Callable[[int], SyntheticDataset]
) -> Float[np.ndarray, "seeds tasks"]:
    """The share of relevant ones among the inputs that each task is most sensitive to.

    The sensitivities are those of predictions on test inputs; arguments as for `attention`.
    """
    tested = dict(zip(selected.choices.index, next(iter(selected.fits.values())).test, strict=True))

    def measured(seed: int, task: str) -> float:
        made, model = world(seed), trained_network(selected, seed, task)
        x = made.data.inputs[torch.as_tensor(tested[seed])]
        found = sensitivities(lambda places: model(places)[task], x)[0]
        return float(precision(found, made.relevant[task]))

    return _of_each(selected, measured)


def _of_each(
    selected: Selected, measured: Callable[[int, str], float]
) -> Float[np.ndarray, "seeds tasks"]:
    chosen = selected.choices
    return np.array([[measured(seed, task) for task in chosen] for seed in chosen.index])


def contestant(
    page: Page,
    trials: Mapping[str, Trial],
    data: Callable[[int], MultiTaskData],
    split: Holdout,
    tasks: Sequence[str],
    *,
    shared: bool,
    seeds: Sequence[int] | None = None,
) -> Selected:
    """Networks with one hidden layer, for all tasks or for each, chosen by each task's validation.

    Whether the layer is shared or not, every task chooses its own trial and its own stopping point,
    both on its own validation labels: what differs is what the layer is trained on.

    Arguments:
        page: whose seeds and device are used.
        trials: by name, the same for every contestant.
        data: of a seed.
        split: of the rows.
        tasks: those that are trained.
        shared: whether the first layer is.
        seeds: others than the page's.
    """
    fits = search(
        page,
        mlp,
        data,
        {name: trial.settings(len(tasks) if shared else 1) for name, trial in trials.items()},
        seeds=seeds,
        tasks=tasks,
        branch_at=None if shared else 0,
        split=split,
        steps=150,
        sampler=Mixed(None),
        stopping="each",
        validate_every=10,
        evaluate_on=("validation", "test"),
    )
    return select(fits, each_task=True)


# The real tables and how many rows test: what is left after 60 for training and 60 for validation.
TABLES = {"digits": (digit_questions, 600), "diabetes": (blood_questions, 250)}


def among_copies(
    page: Page, trials: Mapping[str, Trial], name: str, blocks: int = 6
) -> tuple[Selected, Selected, Callable[[int], SyntheticDataset]]:
    """A shared layer and separate networks on a real table among permuted copies of its inputs.

    Arguments:
        page: whose seeds and device are used.
        trials: of either contestant.
        name: of the table.
        blocks: of inputs, of which the first belongs to the labels.

    Returns:
        The contestant with a shared layer, the one without, and a seed's data.
    """
    read, test = TABLES[name]
    table, split = read(), Holdout(train=60, validation=60, test=test)
    asked = {task.name: 0 for task in table.tasks}

    @cache
    def hidden(seed: int) -> SyntheticDataset:
        return disguised(table, seed, looks_at=asked, blocks=blocks, split=split)

    shared, separate = (
        contestant(page, trials, lambda seed: hidden(seed).data, split, [*asked], shared=one)
        for one in (True, False)
    )
    return shared, separate, hidden
