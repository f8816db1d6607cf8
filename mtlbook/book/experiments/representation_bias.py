"""Section 4.4's experiment: Caruana's argument in one dimension, and two environments."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtlbook.book.experiments.networks import mlp
from mtlbook.book.experiments.results import Trained, trained_network
from mtlbook.book.experiments.training import adamw, train
from mtlbook.book.page import Page
from mtlbook.data import embedded
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.data.synthetic import check_shares
from mtlbook.errors import UsageError
from mtlbook.mechanisms.representation_bias import environment, recovered_subspace
from mtlbook.randomness import generator
from mtlbook.tasks import Task
from mtlbook.training.results import Fit
from mtlbook.transfer.fine_tuning import Start
from mtlbook.transfer.linear_probe import hidden_layer, tuned_head

# The 126 groups of five digits that hold the 0; with the other five each parts the ten in two.
_GROUPS = [(0, *others) for others in combinations(range(1, 10), 4)]


def double_well(theta: Float[Tensor, "*starts"], centre: float) -> Float[Tensor, "*starts"]:
    r"""A loss with two minima that are equally good, $((\theta - c)^2 - 1)^2$: at $c - 1$, $c + 1$.

    Example:
        >>> double_well(torch.tensor([-1.0, 0.0, 1.0]), 0.0)
        tensor([0., 1., 0.])
    """
    return ((theta - centre).square() - 1).square()


def descend(
    starts: Float[Tensor, " starts"],
    centres: Sequence[float],
    steps: int = 400,
    step_size: float = 0.01,
) -> Float[Tensor, " starts"]:
    r"""Where gradient descent on the sum of the tasks' double wells ends, from each start.

    The wells with centres 0 and 2 have one minimum in common. With $u = \theta - 1$ the derivative
    of their sum is $8 u (u^2 + 2)$: the other minimum of either task is none of the sum's.
    """
    theta = starts.clone()
    for _ in range(steps):
        pull = sum(4 * (theta - c) * ((theta - c).square() - 1) for c in centres)
        theta = theta - step_size * pull
    return theta


def wells(
    losses: Mapping[str, Sequence[float]], ends: Mapping[str, Float[Tensor, " starts"]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """For a figure: where descents ended, and the losses, each by name the centres of its wells."""
    grid = torch.linspace(-1.6, 3.6, 200, dtype=torch.float64)

    def frame(name: str, theta: Tensor) -> pd.DataFrame:
        loss = torch.stack([double_well(theta, centre) for centre in losses[name]]).sum(0)
        return pd.DataFrame({"θ": theta, "loss": loss, "of": name})

    points = [frame(name, end) for name, end in ends.items()]
    curves = [frame(name, grid) for name in losses]
    return pd.concat(points), pd.concat(curves).query("loss < 8").assign(what="loss")


def digit_environment(
    seed: int, *, tasks: range, images: range, in_place: float = 1.0
) -> MultiTaskData:
    """An environment on real images: is the digit one of these five, or one of the other five.

    There are 126 ways to split the ten digits into two groups of five, and each is a task: +1 for
    the group with the 0, -1 for the other. What all of them have in common is which digit an image
    shows. The targets are regressions with mean square 1, so that a mean squared error of 1 is that
    of knowing nothing.

    The dial leads to an environment whose tasks are the same and whose images look different: some
    of the 64 pixels change places among each other, in all images alike.

    Arguments:
        seed: of the order of the tasks, of that of the images, and of the pixels' new places.
        tasks: which of the tasks in the seed's order, from 0 to 125.
        images: which of the 1,797 images in the seed's order.
        in_place: the dial, the share of the pixels that keep their places.
    """
    if not (tasks and images and max(tasks) < len(_GROUPS)):
        raise UsageError(
            f"Ask for at least one image and one task of 0 to {len(_GROUPS) - 1}, not for "
            f"{images} and {tasks}."
        )
    check_shares(in_place=in_place)
    digits = _digits()
    if max(images) >= len(digits.inputs):
        raise UsageError(f"There are {len(digits.inputs)} images: ask for fewer than {images}.")
    order = torch.randperm(len(digits.inputs), generator=generator(seed, "images"))
    chosen = order[images.start : images.stop : images.step]
    groups = torch.randperm(len(_GROUPS), generator=generator(seed, "groups"))
    pixels = digits.inputs.shape[1]
    moving = torch.randperm(pixels, generator=generator(seed, "pixels"))
    moving = moving[round(in_place * pixels) :]
    place = torch.arange(pixels)
    # The next one's place: no pixel that is to move stays where it was.
    place[moving] = moving.roll(1)
    label = digits.targets["digit"][chosen]
    targets = {
        f"groups_{task}": 2.0 * torch.isin(label, torch.tensor(_GROUPS[int(groups[task])])) - 1
        for task in tasks
    }
    return MultiTaskData.multi_label(
        [Task.regression(name) for name in targets],
        digits.inputs[chosen][:, place],
        {name: target.double() for name, target in targets.items()},
    )


@dataclass(frozen=True)
class Environment:
    """Tasks that learn a representation, and new tasks that shall use it.

    Attributes:
        name: what its results are recorded as.
        elsewhere: the same for the representation of the other environment.
        sources: the data of so many source tasks for a seed, with labels of all tasks on each of
            so many rows; the last argument is the share of the environment that is the new tasks'.
        new: two new tasks of a seed, with so many rows.
        rows: training rows of the sources.
        weight_decay: of the representation, from pilots on other seeds.
    """

    name: str
    elsewhere: str
    sources: Callable[[int, int, int, float], MultiTaskData]
    new: Callable[[int, int], MultiTaskData]
    rows: int
    weight_decay: float


def one_head(data: MultiTaskData) -> MultiTaskData:
    """Tasks on the same rows as one task with an output each: the same function, the same loss."""
    targets = torch.cat(list(data.targets.values()), dim=1)
    task = Task.regression("sources", outputs=len(data.tasks))
    return MultiTaskData.multi_label([task], data.inputs, {"sources": targets})


def source_names(count: int) -> list[str]:
    """The names of the first so many source tasks of the constructed environment."""
    return [f"source_{number}" for number in range(1, count + 1)]


def _constructed_sources(seed: int, count: int, rows: int, overlap: float) -> MultiTaskData:
    names = source_names(count)
    made = environment(
        seed, tasks=names, rows=rows, overlap=overlap, same_inputs=True, spanning=True
    )
    return one_head(made.data)


def _constructed_new(seed: int, rows: int) -> MultiTaskData:
    return environment(seed, tasks=["new_1", "new_2"], rows=rows, same_inputs=True).data


# The images that source tasks see; new tasks see others.
_SOURCE_IMAGES = 350


def _digit_sources(seed: int, count: int, rows: int, in_place: float) -> MultiTaskData:
    tasks, images = range(2, 2 + count), range(min(rows, _SOURCE_IMAGES))
    return one_head(digit_environment(seed, tasks=tasks, images=images, in_place=in_place))


def _new_digits(seed: int, rows: int) -> MultiTaskData:
    images = range(_SOURCE_IMAGES, _SOURCE_IMAGES + rows)
    return digit_environment(seed, tasks=range(2), images=images)


ENVIRONMENTS = {
    "environment": Environment(
        "constructed",
        "another environment",
        _constructed_sources,
        _constructed_new,
        rows=100,
        weight_decay=1.0,
    ),
    "digits": Environment(
        "digits",
        "digits, pixels shuffled",
        _digit_sources,
        _new_digits,
        rows=300,
        weight_decay=0.1,
    ),
}


# Of the new tasks: 64 examples to choose settings by, and those of the test.
VALIDATION, TEST = 64, 500


def new_tasks(env: Environment, seed: int, examples: int, most: int) -> MultiTaskData:
    """The first examples of two new tasks; validation and test examples are those of any number."""
    kept = torch.cat([torch.arange(examples), most + torch.arange(VALIDATION + TEST)])
    return env.new(seed, most + VALIDATION + TEST).subset(kept)


def learnt_by(
    page: Page, env: Environment, count: int, share: float = 1.0, *, width: int = 16
) -> Fit:
    """The layer that so many source tasks learn together, for each seed.

    Arguments:
        page: whose seeds and device are used.
        env: the environment.
        count: K.
        share: how much of the environment is the new tasks'.
        width: of the layer.
    """
    return train(
        page,
        mlp,
        lambda seed: env.sources(seed, count, env.rows + 50, share),
        width=width,
        split=Holdout(train=env.rows, validation=50, test=0),
        optimiser=adamw(0.02, env.weight_decay),
        steps=400,
        validate_every=10,
        patience=10,
        evaluate_on=("validation",),
    )


def head_error(
    data: Callable[[int], MultiTaskData],
    trained: Trained,
    seeds: Sequence[int],
    examples: int,
    penalties: Sequence[float],
) -> Float[np.ndarray, "seeds"]:
    """The test error of heads on frozen layers, averaged over the new tasks, for each seed."""
    found = []
    for seed in seeds:
        own = data(seed)
        targets = torch.cat(list(own.targets.values()), dim=1)
        hidden = hidden_layer(trained_network(trained, seed).get_submodule("trunk"), own.inputs)
        predicted = tuned_head(hidden, targets, examples, VALIDATION, penalties)
        found.append(float((predicted - targets[-TEST:]).square().mean()))
    return np.array(found)


def directions_seen(trained: Trained, seeds: Sequence[int]) -> Float[np.ndarray, "seeds"]:
    """How much of the constructed environment's subspace a layer spans, for each seed."""
    layers = [trained_network(trained, seed).get_parameter("trunk.0.0.weight") for seed in seeds]
    matrices = [environment(seed, tasks=["new_1"], rows=1).features["new_1"] for seed in seeds]
    return np.array([recovered_subspace(*pair) for pair in zip(layers, matrices, strict=True)])


def start_branches(trained: Fit) -> Start:
    """Start every branch of a network from the trunk that the same seed's training learnt."""

    def start(model: nn.Module, seed: int) -> None:
        state = trained.model(seed).get_submodule("trunk").state_dict()
        for branch in model.get_submodule("branches").children():
            branch.load_state_dict(state)

    return start


@cache
def _digits() -> MultiTaskData:
    """Read once: an experiment asks for the images of many seeds."""
    return embedded.digits("digit")
