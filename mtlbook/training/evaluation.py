"""Evaluation: the tasks' losses and predictions on a part of the data, and tables of results."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtlbook.tasks import Task
from mtlbook.training.context import Batch
from mtlbook.training.pool import Pool
from mtlbook.training.replicas import Replicas, State


class Evaluator:
    """Evaluates all replicas in batches that fit into memory.

    Arguments:
        replicas: whose models are evaluated.
        pool: the data of all replicas.
    """

    def __init__(self, replicas: Replicas, pool: Pool) -> None:
        self._replicas, self._pool = replicas, pool

    @torch.no_grad()
    def losses(self, part: str = "validation") -> Float[Tensor, "replicas tasks"]:
        """Each task's mean loss over the labelled rows of a part, with the present weights."""
        tasks = self._pool.tasks

        def sums(model: nn.Module, batch: Batch) -> list[Tensor]:
            predictions = model(batch.inputs)
            found = []
            for task in tasks:
                each = task.loss(predictions[task.name], batch.targets[task.name])
                known = batch.labelled.get(task.name, torch.ones_like(each))
                found += [(each * known).sum(), known.sum()]
            return found

        self._replicas.train(False)
        replicas = len(self._pool.rows[part])
        total = torch.zeros(2 * len(tasks), replicas, dtype=torch.float64)
        for positions in self._pool.slices(part):
            batch = self._pool.take(part, positions)
            total += torch.stack(self._replicas.map(sums)(batch)).double().cpu()
        self._replicas.train(True)
        return (total[::2] / total[1::2]).T

    @torch.no_grad()
    def predictions(self, part: str, state: State) -> dict[str, Tensor]:
        """Each task's predictions for the rows of a part, `(replicas, rows, outputs, ...)`."""
        self._replicas.train(False)
        predict = self._replicas.map(lambda model, inputs: dict(model(inputs)), state)
        slices = [
            predict(self._pool.take(part, positions).inputs)
            for positions in self._pool.slices(part)
        ]
        names = [task.name for task in self._pool.tasks]
        return {name: torch.cat([piece[name] for piece in slices], dim=1) for name in names}

    def scores(self, task: Task, part: str, predicted: Tensor) -> list[dict[str, Any]]:
        """A task's metric and loss for each replica, by its number."""
        rows = self._pool.rows[part].to(predicted.device)
        targets = self._pool.targets[task.name][rows]
        labelled = self._pool.labelled[part][task.name].to(predicted.device)
        found = []
        for member, (own, target, known) in enumerate(
            zip(predicted, targets, labelled, strict=True)
        ):
            about = {"member": member, "task": task.name, "part": part}
            loss = float(task.loss(own[known], target[known]).mean())
            score = task.score(own[known], target[known])
            found.append(about | {"metric": task.metric.name, "value": score})
            found.append(about | {"metric": "loss", "value": loss})
        return found


def table_of_each_trial(
    rows: Sequence[Mapping[str, Any]], seeds: Sequence[int], trials: int
) -> list[pd.DataFrame]:
    """A table for each trial, with the seeds in the place of the replicas' numbers."""
    of_trials: list[list[dict[str, Any]]] = [[] for _ in range(trials)]
    for row in rows:
        trial, place = divmod(row["member"], len(seeds))
        rest = {name: value for name, value in row.items() if name != "member"}
        of_trials[trial].append({"seed": seeds[place]} | rest)
    return [pd.DataFrame(own) for own in of_trials]
