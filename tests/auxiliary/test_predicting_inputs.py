"""Features as inputs, outputs or nothing; pseudo-labels of In-N-Out."""

import pytest
import torch
from torch import nn

from mtlbook.auxiliary.linear_trunk import identity_gap
from mtlbook.auxiliary.predicting_inputs import Features, Tied, imputed, pseudo_labelled
from mtlbook.data import embedded
from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.sharing.hard import HardSharing
from mtlbook.tasks import Task
from mtlbook.weighting.linear_scalarisation import LinearScalarisation
from tests.equal import exactly


def table(rows: int = 12, binary: bool = False) -> MultiTaskData:
    x = torch.randn(rows, 4, generator=generator(0, "table"), dtype=torch.float64)
    task = Task.binary("y") if binary else Task.regression("y")
    y = (x[:, :1] > 0).double() if binary else x[:, :1] * x[:, 1:2]
    return MultiTaskData.multi_label([task], x, {"y": y})


def test_the_three_roles():
    data = table()
    assert Features({"lab": 2}, "input").of(data) is data
    dropped = Features({"lab": 2}, "nothing").of(data)
    asked = Features({"lab": 2, "age": 0}).of(data)
    exactly(dropped.inputs, data.inputs[:, [0, 1, 3]])
    exactly(asked.inputs, data.inputs[:, [1, 3]])
    assert [task.name for task in asked.tasks] == ["y", "lab", "age"]
    exactly(asked.targets["lab"], data.inputs[:, [2]])
    exactly(asked.targets["age"], data.inputs[:, [0]])
    exactly(asked.targets["y"], data.targets["y"])
    assert [task.name for task in dropped.tasks] == ["y"]


def test_a_feature_may_be_a_task_of_another_kind_and_labels_stay_partial():
    x = torch.cat([table().inputs, (torch.arange(12.0) % 2)[:, None].double()], dim=1)
    known = torch.arange(12) < 5
    data = MultiTaskData.partial(table().tasks, x, table().targets, {"y": known})
    asked = Features({"ill": 4}, task=Task.binary).of(data)
    assert asked.tasks[1].kind == "binary"
    assert torch.equal(asked.labelled["y"], known)
    assert bool(asked.labelled["ill"].all())  # labels, and rows, that the main task does not have


def test_behind_a_full_width_linear_trunk_outputs_change_nothing():
    whole = Features({"s1": 4, "s2": 5, "s3": 6}).of(embedded.diabetes())
    assert identity_gap(whole, "progression") < 1e-9
    assert identity_gap(whole, "progression", width=1) > 1e-3


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Features({"lab": 2}, "both"), "as input and output at once"),
        (lambda: Features({}), "each once"),
        (lambda: Features({"a": 1, "b": 1}), "each once"),
        (lambda: Features({"a": 4}).of(table()), r"there are none \[4\]"),
        (lambda: Features({"a": -1}).of(table()), r"there are none \[-1\]"),
        (lambda: Features(dict(zip("abcd", range(4), strict=True))).of(table()), "leave some"),
        (lambda: Features({"y": 1}).of(table()), "same name"),
    ],
)
def test_impossible_features_are_refused(build, says):
    with pytest.raises(UsageError, match=says):
        build()


def test_a_copy_that_stays_among_the_inputs_is_a_leak():
    data = table()
    twice = MultiTaskData(
        data.tasks,
        torch.cat([data.inputs, 3 - 2 * data.inputs[:, :1]], 1),
        data.targets,
        data.labelled,
    )
    with pytest.raises(UsageError, match="among the inputs"):
        Features({"lab": 0}).of(twice)


def test_constant_features_and_inputs_that_are_not_flat_are_refused():
    data = table()
    inputs = data.inputs.clone()
    inputs[:, 1] = 2.0
    constant = MultiTaskData(data.tasks, inputs, data.targets, data.labelled)
    with pytest.raises(UsageError, match="a constant teaches nothing"):
        Features({"lab": 1}).of(constant)
    images = MultiTaskData(data.tasks, inputs.view(12, 2, 2), data.targets, data.labelled)
    with pytest.raises(UsageError, match="flatten"):
        Features({"lab": 1}).of(images)


def test_missing_features_become_the_training_means():
    x = table().inputs
    filled = imputed(x, [1, 3], torch.tensor([0, 4]))
    exactly(filled[:, [0, 2]], x[:, [0, 2]])
    for column in (1, 3):
        exactly(filled[:, column], ((x[0] + x[4]) / 2)[column].expand(12))


@pytest.mark.parametrize("binary", [False, True])
def test_the_self_training_gradient_is_that_of_its_equation(binary):
    """(1 − w) L(labels) + w L(pseudo-labels) through one head, against a loop by hand."""
    data, share = table(binary=binary), 0.3
    labels = torch.rand(12, 1, generator=generator(0, "guessed"), dtype=torch.float64)
    known = torch.arange(12) < 5
    partly = MultiTaskData.partial(data.tasks, data.inputs, data.targets, {"y": known})
    both = pseudo_labelled(partly, "y", labels, ~known)
    torch.manual_seed(0)
    network = HardSharing(lambda: [nn.Linear(4, 3), nn.Tanh()], {"y": nn.Linear(3, 1)}).double()
    tied = Tied(network, "y")
    found = tied(both.inputs)
    rule = LinearScalarisation({"y": 1 - share, "pseudo": share})
    losses = torch.stack(
        [
            (task.loss(found[task.name], both.targets[task.name]))[both.labelled[task.name]].mean()
            for task in both.tasks
        ]
    )
    rule(losses).backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    network.zero_grad()
    predicted = network(data.inputs)["y"][:, 0]
    total = torch.zeros((), dtype=torch.float64)
    for row in range(12):
        target = data.targets["y"][row, 0] if known[row] else labels[row, 0]
        weight = (1 - share) / 5 if known[row] else share / 7
        p = torch.sigmoid(predicted[row])
        error = -(target * p.log() + (1 - target) * (1 - p).log())
        total = total + weight * (error if binary else (predicted[row] - target) ** 2)
    total.backward()
    for mine, parameter in zip(gradients, network.parameters(), strict=True):
        exactly(mine, parameter.grad)


def test_without_weight_on_pseudo_labels_only_labels_count():
    data = table()
    rows = torch.arange(12) > 5
    marks = {"y": ~rows}
    partly = MultiTaskData.partial(data.tasks, data.inputs, data.targets, marks)
    far = pseudo_labelled(partly, "y", torch.full((12, 1), 1e6).double(), rows)
    exactly(far.targets["y"], partly.targets["y"])
    assert torch.equal(far.labelled["y"], ~rows)
    assert torch.equal(far.labelled["pseudo"], rows)


def test_impossible_pseudo_labels_are_refused():
    data, none = table(), torch.zeros(12, dtype=torch.bool)
    guessed = torch.zeros(12, 1)
    with pytest.raises(UsageError, match="'z' is none"):
        pseudo_labelled(data, "z", guessed, ~none)
    with pytest.raises(UsageError, match="0 get a pseudo-label"):
        pseudo_labelled(data, "y", guessed, none)
    with pytest.raises(UsageError, match="leave those to learn from"):
        pseudo_labelled(data, "y", guessed, ~none)
    kinds = [Task.classification("kind", classes=2)]
    classes = MultiTaskData.multi_label(kinds, data.inputs, {"kind": torch.arange(12) % 2})
    with pytest.raises(UsageError, match="Pseudo-labels are numbers"):
        pseudo_labelled(classes, "kind", guessed, none)
