"""Section 4.4 beside its environment: Caruana's argument in one dimension, and real images."""

from collections.abc import Sequence
from functools import cache
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.data import embedded
from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.data.synthetic import check_shares
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.tasks import Task

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


@cache
def _digits() -> MultiTaskData:
    """Read once: an experiment asks for the images of many seeds."""
    return embedded.digits("digit")
