"""Section 4.2's experiment: its tables, the copies of a task, and what attention counts."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mtlbook.book.experiments.attention_focusing import (
    TABLES,
    Trial,
    among_copies,
    attention,
    blood_questions,
    contestant,
    copies,
    digit_questions,
    first_layer,
    most_sensitive,
)
from mtlbook.book.experiments.results import trained_network
from mtlbook.book.page import Page
from mtlbook.book.parameters import OneOf
from mtlbook.data import embedded
from mtlbook.data.multi_task_data import Consecutive
from mtlbook.mechanisms.attention_focusing import (
    focused_tasks,
    precision,
    sensitivities,
    share,
    squared_weights,
)

SPLIT = Consecutive(train=20, validation=10, test=15)


@pytest.fixture
def page(monkeypatch, tmp_path):
    return made_page(monkeypatch, tmp_path, seeds=2)


def made_page(monkeypatch, tmp_path, seeds):
    monkeypatch.setenv("MTLBOOK_OUTPUT", str(tmp_path))
    notebook = {"seeds": seeds, "first_seed": 0, "device": "cpu", "dataset": "both"}
    return Page("4.2", notebook, dataset=OneOf("both"))


def world(seed):
    return focused_tasks(seed, tasks=3, rows=45, inputs=12)


def trained(page, *, shared, data=lambda seed: world(seed).data, trials=None):
    made = trials or {"weak": Trial(lasso=0.1), "strong": Trial(lasso=0.3)}
    names = ["task_1", "task_2", "task_3"]
    return contestant(page, made, data, SPLIT, names, shared=shared)


def test_the_pixels_are_averaged_over_two_by_two():
    table, raw = digit_questions(), embedded.digits("digit")
    assert table.inputs.shape == (1797, 16)
    image = raw.inputs[5].view(8, 8)
    torch.testing.assert_close(table.inputs[5, 6], image[2:4, 4:6].mean())
    assert all(set(target.unique().tolist()) == {0.0, 1.0} for target in table.targets.values())


def test_blood_is_predicted_from_what_is_no_blood_measure():
    table, raw = blood_questions(), embedded.diabetes()
    assert torch.equal(table.inputs, raw.inputs[:, :4])
    assert len(table.tasks) == 7
    torch.testing.assert_close(table.targets["tc"][:, 0], raw.inputs[:, 4])


def test_copies_keep_names_and_inputs_and_have_the_labels_of_one():
    data = world(0).data
    same = copies(data, "task_2")
    assert [task.name for task in same.tasks] == [task.name for task in data.tasks]
    assert torch.equal(same.inputs, data.inputs)
    assert all(torch.equal(target, data.targets["task_2"]) for target in same.targets.values())
    with pytest.raises(ValueError, match="unpack"):
        copies(data, "task_9")


@pytest.mark.parametrize("shared", [True, False])
def test_attention_is_that_of_each_task_in_its_own_network(page, shared):
    found = trained(page, shared=shared)
    looks = attention(found, world)
    assert looks.shape == (2, 3)
    network = trained_network(found, 1, "task_3")
    weights = first_layer(network, "task_3")
    assert weights.shape == (8, 12)
    expected = share(squared_weights(weights), world(1).relevant["task_3"])
    np.testing.assert_allclose(looks[1, 2], float(expected))
    top = most_sensitive(found, world)
    assert top.shape == (2, 3)
    rows = world(1).data.inputs[30:]
    gradients = sensitivities(lambda x: network(x)["task_3"], rows)
    np.testing.assert_allclose(top[1, 2], precision(gradients[0], world(1).relevant["task_3"]))


def test_a_shared_layer_is_one_and_separate_layers_are_several(page):
    one = {"one": Trial(lasso=0.1)}
    joint = trained_network(trained(page, shared=True, trials=one), 0, "task_1")
    alone = trained_network(trained(page, shared=False, trials=one), 0, "task_1")
    assert torch.equal(first_layer(joint, "task_1"), first_layer(joint, "task_2"))
    assert not torch.equal(first_layer(alone, "task_1"), first_layer(alone, "task_2"))


def test_every_task_chooses_by_its_own_validation_labels_also_in_a_shared_layer(page):
    trials = {"weak": Trial(lasso=0.01), "hopeless": Trial(lasso=5.0)}

    def noisy_validation(seed):
        # What task 1 learns is wrong on its validation rows: to predict nothing is best.
        data = world(seed).data
        targets = dict(data.targets)
        targets["task_1"] = targets["task_1"].clone()
        targets["task_1"][20:30] *= -1
        return replace(data, targets=targets)

    found = trained(page, shared=True, data=noisy_validation, trials=trials)
    assert set(found.choices["task_1"]) == {"hopeless"}
    assert "weak" in set(found.choices["task_2"])


def test_many_tasks_focus_a_layer_and_copies_do_not(monkeypatch, tmp_path):
    names = [f"task_{number}" for number in range(1, 7)]
    split = Consecutive(train=30, validation=40, test=50)
    page = made_page(monkeypatch, tmp_path, seeds=4)
    trial = {"lasso": Trial(lasso=0.2)}

    def made(seed):
        return focused_tasks(seed, tasks=6, rows=120)

    def of_copies(seed):
        return replace(made(seed), data=copies(made(seed).data, "task_1"))

    arms = {
        "joint": (made, True),
        "copies": (of_copies, True),
        "alone": (made, False),
    }
    share_of = {
        name: attention(
            contestant(page, trial, lambda seed, of=of: of(seed).data, split, names, shared=shared),
            of,
        )[:, 0].mean()
        for name, (of, shared) in arms.items()
    }
    assert share_of["joint"] > share_of["alone"] + 0.02
    assert abs(share_of["copies"] - share_of["alone"]) < abs(share_of["joint"] - share_of["alone"])


def test_of_a_real_table_one_block_in_six_is_relevant(page, monkeypatch):
    monkeypatch.setitem(TABLES, "diabetes", (blood_questions, 20))
    shared, separate, hidden = among_copies(page, {"lasso": Trial(lasso=0.2)}, "diabetes")
    assert hidden(1).data.inputs.shape == (442, 24)
    assert all(marks.sum() == 4 and marks[:4].all() for marks in hidden(1).relevant.values())
    for arm in (shared, separate):
        assert arm.choices.shape == (2, 7)
        assert (attention(arm, hidden) > 1 / 6).mean() > 0.5
