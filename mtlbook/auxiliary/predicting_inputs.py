r"""Section 7.6, predicting inputs: a feature as an input, as an output, or as nothing.

A feature z that is known for the training rows can be given to the network or asked of it
(Caruana, 1997, section 4.9; Caruana and de Sa, 1997; Ruder, 2017, section 7.6):

    input      ŷ = h(f(x, z)),
    output     ŷ = h(f(x)),  ẑ = h_z(f(x)),  L = L_y + λ Σ_j (z_j − ẑ_j)²,
    nothing    ŷ = h(f(x)).

As an input its value counts, with all its noise; as an output only the mapping x → z counts, over
which the noise is averaged, and z need not be known later. `Features` is that choice as one value.

Both at once give the network z to predict z from: refused. In-N-Out (Xie et al., 2021, algorithm
of section 3) gets the best of both one after the other:

    1. ŷ_in = h(f(x, z)) learns from the labelled rows, and gives the unlabelled ones pseudo-labels;
    2. f learns x → z from all rows, also those of another distribution;
    3. from there h(f(x)) learns (1 − w) L_y(labelled) + w L_y(pseudo-labelled).

**Where it fails.** With little noise the value itself says more than any mapping learnt from few
rows: keep it as an input. An output that shares nothing with the target spends the trunk's units
and gives nothing back; and where the trunk is linear and wide enough an output changes nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mtlbook.auxiliary.auxiliary_task import add_auxiliary
from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.tasks import Numbers, Task

ROLES = ("input", "output", "nothing")


@dataclass(frozen=True)
class Features:
    """What becomes of some columns of flat inputs: inputs, outputs, or nothing.

    Outputs are further tasks, and a random split depends on the tasks' names: to compare roles on
    the same rows, split before (`Consecutive`).

    Attributes:
        columns: the number of each feature's column, by the feature's name.
        role: `input` leaves them where they are, `output` takes them out of the inputs and makes
            a task of each, `nothing` takes them out.
        task: makes a feature's task from its name; by default a regression.

    Raises:
        UsageError: for no column, one column twice, or an unknown role; from `of`, for inputs that
            are not flat, columns that are not there, that are all there are, or of which a copy
            stays among the inputs, and for a name that is already a task's.

    Example:
        >>> import torch
        >>> rows = torch.arange(12.0).view(4, 3).square()
        >>> data = MultiTaskData.multi_label([Task.regression("y")], rows, {"y": rows[:, :1].sin()})
        >>> asked = Features({"lab": 2}, "output").of(data)
        >>> [task.name for task in asked.tasks], tuple(asked.inputs.shape)
        (['y', 'lab'], (4, 2))
    """

    columns: Mapping[str, int]
    role: str = "output"
    task: Callable[[str], Task] = field(default=Task.regression)

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise UsageError(
                f"A feature is one of {', '.join(ROLES)}, not {self.role!r}: as input and output "
                "at once the network would copy it."
            )
        if not self.columns or len(set(self.columns.values())) != len(self.columns):
            raise UsageError(
                f"Features are columns of the inputs by name, each once: {dict(self.columns)} are "
                "not."
            )

    def of(self, data: MultiTaskData) -> MultiTaskData:
        """The data with these features in their role; the tasks that were there stay in front."""
        inputs = _flat(data)
        width, columns = inputs.shape[1], list(self.columns.values())
        wrong = sorted(column for column in columns if not 0 <= column < width)
        if wrong:
            raise UsageError(
                f"The inputs have {width} columns, numbered from 0: there are none {wrong}."
            )
        if self.role == "input":
            return data
        left = [column for column in range(width) if column not in columns]
        if not left:
            raise UsageError("All inputs are to become outputs: leave some to predict them from.")
        changed = MultiTaskData(data.tasks, inputs[:, left], data.targets, data.labelled)
        if self.role == "nothing":
            return changed
        for name, column in self.columns.items():
            changed = add_auxiliary(changed, self.task(name), inputs[:, [column]])
        return changed


def imputed(
    inputs: Float[Tensor, "rows columns"],
    columns: Sequence[int],
    training: Int[Tensor, " training"],
) -> Float[Tensor, "rows columns"]:
    """Inputs in which features are missing: their columns hold the means of the training rows.

    Arguments:
        inputs: of all rows.
        columns: those that are missing.
        training: the rows that the means are taken from.

    Example:
        >>> import torch
        >>> imputed(torch.tensor([[1.0, 2.0], [3.0, 6.0], [5.0, 9.0]]), [1], torch.tensor([0, 1]))
        tensor([[1., 4.],
                [3., 4.],
                [5., 4.]])
    """
    filled = inputs.clone()
    filled[:, list(columns)] = inputs[training][:, list(columns)].mean(0)
    return filled


def pseudo_labelled(
    data: MultiTaskData,
    main: str,
    labels: Float[Tensor, "rows outputs"],
    rows: Bool[Tensor, " rows"],
    name: str = "pseudo",
) -> MultiTaskData:
    """The main task alone, and once more under another name with predictions for labels.

    Train a network that is `Tied` on it, with weights (1 − w, w) of the two losses.

    Arguments:
        data: whose inputs are those without the features.
        main: the task that was predicted, a regression or a binary one.
        labels: for every row what the network that had the features as inputs predicts: values,
            or probabilities.
        rows: that get a pseudo-label: training rows without a label of the main task, and for a
            split the rows to validate and test on, whose pseudo-labels nobody learns from.
        name: of the second task.

    Raises:
        UsageError: for a main task of another kind or that the data do not have, for no row, and
            where every row with a label gets a prediction in its place.
    """
    own = next((task for task in data.tasks if task.name == main), None)
    if own is None or not isinstance(own.targets, Numbers):
        raise UsageError(
            "Pseudo-labels are numbers: they are for a regression or a binary task among "
            f"{[task.name for task in data.tasks]}, and {main!r} is none."
        )
    if not rows.any() or not (data.labelled[main] & ~rows).any():
        raise UsageError(
            f"Of {data.rows} rows {int(rows.sum())} get a pseudo-label: take some that have no "
            f"label of task {main!r}, and leave those to learn from that have one."
        )
    # A probability is a label that no binary task would take.
    again = Task.custom(name, own.outputs, own.example_loss, own.metric, targets=Numbers())
    targets = {main: data.targets[main], name: labels.detach().to(data.targets[main].dtype)}
    marks = {main: data.labelled[main], name: rows}
    return MultiTaskData.partial([own, again], data.inputs, targets, marks)


class Tied(nn.Module):
    """A network in which one task's prediction also stands under another name.

    Arguments:
        network: from inputs to predictions by task.
        main: the task that is predicted.
        name: under which its prediction stands once more.

    Example:
        >>> import torch
        >>> from mtlbook.sharing.hard import HardSharing
        >>> network = HardSharing(lambda: [nn.Linear(2, 4)], {"y": nn.Linear(4, 1)})
        >>> sorted(Tied(network, "y")(torch.ones(3, 2)))
        ['pseudo', 'y']
    """

    def __init__(self, network: nn.Module, main: str, name: str = "pseudo") -> None:
        super().__init__()
        self.network, self.main, self.name = network, main, name

    def forward(self, inputs: Float[Tensor, "examples ..."]) -> Mapping[str, Float[Tensor, "..."]]:
        """Each task's prediction, the main one's twice."""
        found = dict(self.network(inputs))
        return found | {self.name: found[self.main]}


def _flat(data: MultiTaskData) -> Float[Tensor, "rows columns"]:
    if not isinstance(data.inputs, Tensor) or data.inputs.ndim != 2:
        raise UsageError("Features are columns of flat inputs, one row an example: flatten them.")
    return data.inputs
