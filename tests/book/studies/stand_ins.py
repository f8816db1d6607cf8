"""Small stand-ins for the data sets that the studies download."""

import torch

from mtlbook.data.images import LabelledImages
from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.data.scaling import RawTable
from mtlbook.randomness import generator
from mtlbook.tasks import Task

Schools = tuple[list[torch.Tensor], list[torch.Tensor]]


def schools(count: int = 6, students: int = 100, inputs: int = 4) -> Schools:
    """Inputs and scores of schools with one law, and a level of each school's own."""
    law = torch.linspace(1, -1, inputs, dtype=torch.float64)
    drawn = [
        torch.randn(students, inputs, generator=generator(0, "school", number), dtype=torch.float64)
        for number in range(count)
    ]
    noise = [
        torch.randn(students, generator=generator(0, "noise", number), dtype=torch.float64)
        for number in range(count)
    ]
    scores = [
        x @ law + 0.5 * number + e for number, (x, e) in enumerate(zip(drawn, noise, strict=True))
    ]
    return [50 + 10 * x for x in drawn], scores


def schools_of_28_inputs() -> MultiTaskData:
    """Four schools as `mtlbook.data.school.load` gives them: a constant is the last input."""
    inputs, scores = schools(count=4, students=60, inputs=27)
    sets = {
        Task.regression(f"school_{number:03}"): (
            torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1),
            30 + 5 * y[:, None],
        )
        for number, (x, y) in enumerate(zip(inputs, scores, strict=True), start=1)
    }
    return MultiTaskData.several(sets)


def people(rows: int = 200) -> RawTable:
    """Two answers, and a diagnosis, that say what two of five measures say; some are missing."""
    x = torch.randn(rows, 5, generator=generator(0, "people"), dtype=torch.float64)
    tasks = (Task.regression("mood"), Task.regression("sleep"), Task.binary("diagnosis"))
    diagnosis = (x[:, :1] + x[:, 1:2] > 0.8).double()
    targets = {"mood": 3 * x[:, :1] + 1, "sleep": x[:, 1:2], "diagnosis": diagnosis}
    inputs = 10 * x + 100
    inputs[::7, 4] = torch.nan
    every = torch.ones(rows, dtype=torch.bool)
    return RawTable(tasks, inputs, targets, {task.name: every for task in tasks})


def digits(train: int, test: int, side: int) -> LabelledImages:
    """Images whose brightness in one of ten places tells the digit."""

    def drawn(rows: int, part: str) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.arange(rows) % 10
        images = 0.3 * torch.rand(rows, side, side, generator=generator(0, "digits", part))
        images.flatten(1)[torch.arange(rows), 7 * labels] = 1.0
        return images, labels

    return LabelledImages(*drawn(train, "train"), *drawn(test, "test"))
