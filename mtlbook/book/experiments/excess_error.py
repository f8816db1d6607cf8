"""What section 3.1 measures with: excess errors and their floor."""

from dataclasses import replace

import numpy as np
import torch

from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.data.synthetic import SyntheticDataset


def noiseless_test(world: SyntheticDataset, split: Holdout, seed: int) -> MultiTaskData:
    """Regressions whose test targets carry no noise, so that the test error is the excess error.

    The mean squared error against noisy targets is the noise's variance, which no learner can
    avoid, plus the excess error; against noiseless ones it is the excess error alone, free of
    the test noise. Training and validation targets stay as they are.

    Arguments:
        world: whose noiseless targets are known.
        split: that of the training.
        seed: that of the training.
    """
    data = world.data
    drawn = split.draw(data, seed)
    targets = {}
    for task in data.tasks:
        labelled = data.labelled[task.name]
        truth = torch.zeros_like(data.targets[task.name])
        truth[labelled] = world.noiseless[task.name].to(truth)
        test = torch.zeros_like(labelled)
        test[drawn.test] = True
        own = (test & labelled)[:, None]
        targets[task.name] = torch.where(own, truth, data.targets[task.name])
    return replace(data, targets=targets)


def head_error(world: SyntheticDataset, split: Holdout, seed: int, tasks: int) -> float:
    """The excess error of heads on the true features, by least squares: an oracle.

    It knows the representation tanh(x B_t) and learns no more than each task's head, so that it
    is the error that is left however many tasks share a trunk.

    Arguments:
        world: regressions with tanh features, as `related_tasks` makes them.
        split: that of the training.
        seed: that of the training.
        tasks: of the first so many tasks the mean is taken.
    """
    data = noiseless_test(world, split, seed)
    drawn = split.draw(data, seed)
    errors = []
    for task in data.tasks[:tasks]:
        labelled, target = data.labelled[task.name], data.targets[task.name]
        features = torch.tanh(data.inputs @ world.features[task.name])
        design = torch.cat([features, torch.ones_like(target)], dim=1)
        train, test = (rows[labelled[rows]] for rows in (drawn.train, drawn.test))
        head = torch.linalg.lstsq(design[train], target[train]).solution
        errors.append(float((design[test] @ head - target[test]).square().mean()))
    return float(np.mean(errors))
