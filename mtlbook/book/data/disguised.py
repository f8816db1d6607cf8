r"""Section 4.2, real data among permuted copies of its inputs."""

from collections.abc import Mapping
from dataclasses import replace

import torch

from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.data.scaling import RawTable, scaled
from mtlbook.data.synthetic import SyntheticDataset
from mtlbook.errors import UsageError
from mtlbook.randomness import generator


def disguised(
    table: MultiTaskData | RawTable,
    seed: int,
    *,
    looks_at: Mapping[str, int],
    blocks: int,
    split: Holdout,
) -> SyntheticDataset:
    r"""Real data among permuted copies of its inputs, which are known to be irrelevant.

    Of $n$ rows $x_i$ with $d$ inputs each, the new rows have $B$ blocks of $d$ inputs,

    $$\tilde x_i = \big(x_{\pi_0(i)}, x_{\pi_1(i)}, \dots, x_{\pi_{B-1}(i)}\big), \qquad
      \tilde y_{t, i} = y_{t, \pi_{b(t)}(i)},$$

    where each $\pi_b$ is a permutation of the rows and $b(t)$ the block that task $t$ looks at. A
    block is distributed like the real inputs and independent of the others, so that for task $t$
    all blocks but $b(t)$ are irrelevant. With all tasks at one block they look at the same inputs;
    with each at a block of its own no two do (the negative control), and a task alone is as
    difficult as before. Inputs that are irrelevant for certain because they are permuted copies are
    the *shadow attributes* of Kursa and Rudnicki (2010).

    Arguments:
        table: every row labelled for every task.
        seed: of the permutations and of the split.
        looks_at: b, for each task the number of its block.
        blocks: B.
        split: also that of the training: inputs and targets are in units of its training rows
            (`mtlbook.data.scaling.scaled`).

    Raises:
        UsageError: for rows without the labels of all tasks, inputs that are not flat, or tasks
            that do not look at one of the blocks.

    Example:
        >>> from mtlbook.tasks import Task
        >>> tasks = [Task.regression("price"), Task.regression("weight")]
        >>> targets = {task.name: torch.arange(3.0) for task in tasks}
        >>> table = MultiTaskData.multi_label(tasks, torch.arange(3.0)[:, None], targets)
        >>> split = Holdout(train=2, validation=0, test=1)
        >>> new = disguised(table, 0, looks_at={"price": 0, "weight": 1}, blocks=2, split=split)
        >>> bool((new.data.inputs[:, 1:] == new.data.targets["weight"]).all())
        True
    """
    if table.inputs.ndim != 2 or not all(marks.all() for marks in table.labelled.values()):
        raise UsageError(
            "The table needs flat inputs and the labels of all tasks on every row: only then can "
            "whole rows be permuted."
        )
    names = [task.name for task in table.tasks]
    if sorted(looks_at) != sorted(names) or not all(0 <= b < blocks for b in looks_at.values()):
        raise UsageError(
            f"looks_at must name for each of the tasks {names} a block from 0 to {blocks - 1}: "
            f"{dict(looks_at)} does not."
        )
    rows, width = table.inputs.shape
    orders = [
        torch.randperm(rows, generator=generator(seed, "permuted copy", block))
        for block in range(blocks)
    ]
    targets, masks = {}, {}
    for name in names:
        block = looks_at[name]
        targets[name] = table.targets[name][orders[block]]
        masks[name] = torch.arange(blocks * width) // width == block
    inputs = torch.cat([table.inputs[order] for order in orders], dim=1)
    mixed = replace(table, inputs=inputs, targets=targets)
    return SyntheticDataset(scaled(mixed, split, seed), relevant=masks)
