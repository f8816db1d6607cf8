"""Section 3.1, several data sets in one network with a single head, with and without task codes.

Pooling is the strongest sharing that there is: one function for all data sets. A one-hot task code
e_t appended to the input tells the network which data set a row comes from.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.layers.stages import Stages, make


def with_task_codes(data: MultiTaskData) -> MultiTaskData:
    """Several data sets, with the one-hot code of its data set appended to each input.

    Raises:
        UsageError: where a row carries the labels of several tasks: it belongs to no single one.
    """
    marks = torch.stack([data.labelled[task.name] for task in data.tasks], dim=1)
    if not bool((marks.sum(1) == 1).all()):
        raise UsageError(
            "A task code says which data set a row comes from, but here rows carry the labels of "
            "several tasks or of none: such data needs a head for each task (HardSharing)."
        )
    return data.with_codes(marks.long().argmax(1))


class Pooled(nn.Module):
    """One network with one head for all data sets: every task gets the same output.

    ŷ_t = h(f(x)), or h(f([x, e_t])) where the data carries task codes
    (`with_task_codes`): the code alone can tell the tasks apart. In a linear
    network, without any stage, it gives wᵀx + b_t, an intercept for each task and one slope for
    all. Trained by `fit` on several data sets it sees the same rows and splits as `HardSharing`
    does, and each data set's error is measured on its own rows.

    Arguments:
        stages: makes the hidden layers, from the input (and the code) on; called once.
        head: from the last stage's features to the one prediction.
        tasks: the names under which the prediction is given.

    Attributes:
        trunk, head: the parts of the network.
        tasks: the names.

    Raises:
        UsageError: for stages that are no function; for no name, or one twice.

    Example:
        >>> # Three inputs and a code of two.
        >>> model = Pooled(list, head=nn.Linear(3 + 2, 1), tasks=["first", "second"])
        >>> {name: tuple(p.shape) for name, p in model(torch.ones(4, 5)).items()}
        {'first': (4, 1), 'second': (4, 1)}
    """

    def __init__(self, stages: Stages, head: nn.Module, tasks: Sequence[str]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        if isinstance(tasks, str) or not tasks or len(set(tasks)) != len(tasks):
            raise UsageError(
                f"tasks names the pooled data sets, each once, at least one: not {tasks!r}."
            )
        self.trunk = nn.Sequential(*make(stages))
        self.head = head

    def forward(self, inputs: Float[Tensor, "examples ..."]) -> Mapping[str, Float[Tensor, "..."]]:
        """The one prediction under each task's name, `(examples, outputs, ...)`."""
        prediction: Tensor = self.head(self.trunk(inputs))
        return dict.fromkeys(self.tasks, prediction)


class Interactions(nn.Module):
    """A first stage that lets the task code turn on weights of its own: [x, e_t, x ⊗ e_t].

    A linear head w on these features is (w_0 + v_t)ᵀ x + b_t: a slope common to all tasks and each
    task's deviation from it. Without a penalty these are K separate regressions; with a ridge
    penalty λ(‖w_0‖² + Σ_t ‖v_t‖²) they are mean-regularised multi-task learning (Evgeniou and
    Pontil, 2004, in its primal form), the kernel (1 + δ_st) xᵀx'.

    Arguments:
        tasks: K, the length of the task code at the end of each input.

    Example:
        >>> x_and_code = torch.tensor([[5.0, 7.0, 0.0, 1.0]])  # two inputs, the second of two tasks
        >>> Interactions(2)(x_and_code)
        tensor([[5., 7., 0., 1., 0., 0., 5., 7.]])
    """

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.tasks = tasks

    def width(self, inputs: int) -> int:
        """How many features it makes of so many inputs (the code not counted)."""
        return inputs + self.tasks + inputs * self.tasks

    def forward(
        self, inputs: Float[Tensor, "examples inputs"]
    ) -> Float[Tensor, "examples features"]:
        """Inputs with their code, and behind them a block for each task, 0 but for the row's."""
        x, code = inputs[:, : -self.tasks], inputs[:, -self.tasks :]
        # (examples, tasks, 1) x (examples, 1, inputs) -> (examples, tasks, inputs)
        product = code.unsqueeze(2) * x.unsqueeze(1)
        return torch.cat([inputs, product.flatten(1)], dim=1)
