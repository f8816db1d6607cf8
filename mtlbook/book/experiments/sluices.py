"""Section 6.8: columns from one start, what a trained sluice network shares, and the released code.

All networks of columns start from equal columns, so that the subspaces of one correspond to those
of another before the first step, as in section 6.3.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.architectures.sluice_networks import Sluice
from mtlbook.book.experiments.networks import Stages


def from_one_start(stages: Stages) -> Stages:
    """Stages for one network of columns: those of the first column, and copies of them.

    Example:
        >>> make = from_one_start(lambda: [torch.nn.Linear(2, 2)])
        >>> torch.equal(make()[0].weight, make()[0].weight)
        True
    """
    first = list(stages())
    return lambda: deepcopy(first)


def given_across(
    alpha: Float[Tensor, "parts parts"], subspaces: int
) -> Float[Tensor, "tasks subspaces"]:
    """Of what each subspace gives (Σ|α| over all that take), the share that other tasks take.

    Example:
        >>> alpha = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [3, 0, 0, 0], [0, 0, 0, 1]])
        >>> given_across(alpha, 2)  # A's first subspace gives three quarters to task B
        tensor([[0.7500, 0.0000],
                [0.0000, 0.0000]])
    """
    tasks = len(alpha) // subspaces
    sizes = alpha.abs().view(tasks, subspaces, tasks, subspaces).sum(1)  # takes, gives, of what
    given = sizes.sum(0)
    # A subspace that gives nothing gives nothing to others.
    return (given - sizes.diagonal().T) / given.clamp_min(torch.finfo(alpha.dtype).tiny)


def explained(
    units: Float[Tensor, "rows units"], features: Float[Tensor, "rows features"]
) -> float:
    """R² of the least-squares prediction of features from units, the mean over the features.

    Example:
        >>> x = torch.tensor([[0.0], [1.0], [2.0]])
        >>> round(explained(x, torch.cat([2 * x + 1, (x - 1) ** 2], 1)), 6)
        0.5
    """
    units, features = units - units.mean(0), features - features.mean(0)
    left = features - units @ torch.linalg.lstsq(units, features).solution
    return float((1 - left.square().sum(0) / features.square().sum(0)).mean())


def given_by_relevance(
    model: Sluice,
    inputs: Float[Tensor, "rows inputs"],
    features: Mapping[str, Sequence[Float[Tensor, "rows features"]]],
) -> tuple[float, float]:
    """What the subspace that serves the other tasks better gives to them, and what the other does.

    Of the two subspaces of a column's layer, the one serves the other tasks better that predicts
    their true features of that layer better. Means over columns and layers.

    Arguments:
        model: of two subspaces.
        inputs: on which the units and the features are compared.
        features: by task, its true features of each layer on these inputs.
    """
    shares = []
    computed = computed_features(model, inputs)
    for place, alpha in enumerate(model.alpha):
        across = given_across(alpha, model.subspaces)
        for number, task in enumerate(model.heads):
            others = torch.cat([own[place] for name, own in features.items() if name != task], 1)
            halves = computed[task][place].chunk(model.subspaces, 1)
            order = sorted(range(len(halves)), key=lambda part: explained(halves[part], others))
            shares.append(across[number][order].flip(0))
    best, *_, worst = torch.stack(shares).mean(0).tolist()
    return best, worst


def computed_features(
    model: Sluice, inputs: Float[Tensor, "rows inputs"]
) -> dict[str, list[Float[Tensor, "rows units"]]]:
    """What each column's stages computed on some inputs, in front of α."""
    found: dict[str, list[Tensor]] = {task: [] for task in model.heads}
    hooks = [
        stage.register_forward_hook(lambda _stage, _inputs, made, own=own: own.append(made))
        for task, own in found.items()
        for stage in model.columns.get_submodule(task).children()
    ]
    with torch.no_grad():
        model(inputs)
    for hook in hooks:
        hook.remove()
    return found


def released_mixture(
    alpha: Float[Tensor, "parts parts"], states: Sequence[Float[Tensor, " units"]]
) -> Float[Tensor, "tasks units"]:
    """What the code that was released with the paper makes of a token's states, a row a task.

    It concatenates the states, a column a task, and reshapes them to a row a subspace, multiplies
    with α, and reshapes back. Both reshapes take entries column by column, as DyNet's do; the code
    would need them row by row.
    """
    columns = torch.stack(list(states), 1)
    return _column_major(alpha @ _column_major(columns, len(alpha)), len(states))


def _column_major(matrix: Float[Tensor, "..."], rows: int) -> Float[Tensor, "rows columns"]:
    """A matrix of the same entries, read and filled column by column."""
    return matrix.T.reshape(-1, rows).T
