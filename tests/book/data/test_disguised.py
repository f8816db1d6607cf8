"""Real data in disguise: what each block holds, and that the others know nothing."""

import numpy as np
import pytest
import torch

from mtlbook.book.data.disguised import disguised
from mtlbook.data.embedded import diabetes, digit_domains, digits
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.data.scaling import standardised
from mtlbook.errors import UsageError
from mtlbook.tasks import Task

SPLIT = Holdout(train=100, validation=50, test=100)


def test_a_block_holds_the_real_rows_and_its_tasks_their_targets():
    table = diabetes()
    both = MultiTaskData.multi_label(
        [Task.regression("progression"), Task.regression("glucose")],
        table.inputs[:, :9],
        table.targets | {"glucose": table.inputs[:, 9]},
    )
    world = disguised(both, 4, looks_at={"progression": 2, "glucose": 0}, blocks=3, split=SPLIT)
    assert world.data.inputs.shape == (442, 27)
    for name, block in {"progression": 2, "glucose": 0}.items():
        own = world.data.inputs[:, world.relevant[name]]
        assert torch.equal(own, world.data.inputs[:, 9 * block : 9 * block + 9])
        # Rows and targets belong together: sorted alike they are the table, in other units.
        rows = torch.cat([own, world.data.targets[name]], dim=1)
        real = torch.cat([both.inputs, both.targets[name]], dim=1)
        found, expected = (
            torch.tensor(sorted(standardised(values, values).round(decimals=9).tolist()))
            for values in (rows, real)
        )
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_disguised_inputs_and_targets_are_in_units_of_the_training_rows():
    world = disguised(diabetes(), 1, looks_at={"progression": 1}, blocks=2, split=SPLIT)
    rows = SPLIT.draw(world.data, 1).train
    for values in (world.data.inputs[rows], world.data.targets["progression"][rows]):
        torch.testing.assert_close(values.mean(0), torch.zeros_like(values[0]), rtol=0, atol=1e-9)
        torch.testing.assert_close(values.std(0, correction=0), torch.ones_like(values[0]))


def test_other_blocks_know_nothing_of_the_target():
    table = digits("parity", "loop")
    world = disguised(table, 0, looks_at={"parity": 0, "loop": 0}, blocks=2, split=SPLIT)
    inputs, target = world.data.inputs.numpy(), world.data.targets["parity"].numpy()
    inputs = np.c_[inputs, np.ones(len(inputs))]
    explained = []
    for block in (slice(0, 64), slice(64, 128)):
        own = np.c_[inputs[:, block], inputs[:, -1]]
        fitted, *_ = np.linalg.lstsq(own, target, rcond=None)
        explained.append(1 - (target - own @ fitted).var() / target.var())
    assert explained[0] > 0.4
    assert explained[1] < 0.06  # 64 chance inputs of 1,797 rows


def test_disguise_needs_whole_rows_and_a_block_for_each_task():
    with pytest.raises(UsageError, match="all tasks on every row"):
        disguised(digit_domains(), 0, looks_at={"upright": 0}, blocks=1, split=SPLIT)
    table = digits("parity", "loop")
    for looks_at in ({"parity": 0}, {"parity": 0, "loop": 2}, {"parity": 0, "loop": -1}):
        with pytest.raises(UsageError, match="from 0 to 1"):
            disguised(table, 0, looks_at=looks_at, blocks=2, split=SPLIT)
