"""School: examination scores in 139 schools of London, one regression a school.

15,362 students of the Inner London Education Authority, 1985 to 1987, with the categorical columns
in the binary coding that is usual since Argyriou, Evgeniou and Pontil (2007).
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.io import loadmat
from torch import Tensor

from mtlbook.data import scaling
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.data.registry import fetch
from mtlbook.tasks import Task

# The last input is the constant 1, which is in no unit.
MEASURED = slice(0, 27)


def load(codes: bool = False) -> MultiTaskData:
    """The schools as 139 data sets, `school_001` to `school_139`, downloaded at the first call.

    Arguments:
        codes: append to every input the one-hot code of its school.

    Returns:
        Regressions on 28 inputs in float64, the 27 published ones and a constant 1, of scores from
        1 to 70; by the explained variance, the measure of the literature on this data set.
    """
    inputs, scores = read_schools(fetch("school") / "school.mat")
    schools = [
        Task.regression(f"school_{number:03}", metric="explained variance")
        for number in range(1, len(inputs) + 1)
    ]
    sets = dict(zip(schools, zip(inputs, scores, strict=True), strict=True))
    return MultiTaskData.several(sets, codes=codes)


def scaled(data: MultiTaskData, split: Holdout, seed: int) -> MultiTaskData:
    """Schools in units of the training students of all of them, not of each school.

    A school's mean is part of what is predicted. The constant and the codes stay as they are.
    """
    return scaling.scaled(data, split, seed, columns=MEASURED, together=True)


def read_schools(
    file: Path,
) -> tuple[list[Float[Tensor, "students 28"]], list[Float[Tensor, "students 1"]]]:
    """The inputs and the scores of each school, as published: MATLAB's cell arrays X and Y."""
    content = loadmat(file)
    inputs, scores = (
        [torch.from_numpy(school.astype(np.float64)) for school in content[name].ravel()]
        for name in ("X", "Y")
    )
    return inputs, scores
