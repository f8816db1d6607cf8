"""The patients of scikit-learn's diabetes data in four groups: a task each."""

from itertools import product

from mtlbook.data import embedded
from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.tasks import Task


def groups_of_patients() -> MultiTaskData:
    """442 patients by sex, and by age up to the median or above it: the same question four times.

    Each group predicts the progression of the disease from the same ten measurements.
    """
    table = embedded.diabetes()
    age, sex = table.inputs[:, 0], table.inputs[:, 1]  # the two columns that define the groups
    older, second_sex = age > age.median(), sex > 1
    target = table.targets["progression"]
    sets = {}
    for is_older, is_second in product((False, True), (False, True)):
        own = (older == is_older) & (second_sex == is_second)
        name = f"sex_{1 + is_second}_{'older' if is_older else 'younger'}"
        sets[Task.regression(name)] = table.inputs[own], target[own]
    return MultiTaskData.several(sets)
