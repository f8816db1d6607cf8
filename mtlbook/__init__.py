"""mtlbook: the executable companion to Ruder's overview of multi-task learning (2017)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtlbook.data.multi_task_data import Consecutive, Holdout, MultiTaskData
    from mtlbook.errors import UsageError
    from mtlbook.tasks import Task
    from mtlbook.training.fit import Fit, TrainingDivergedError, fit, fit_trials
    from mtlbook.training.selection import select

__version__ = "0.1.0"

__all__ = [
    "Consecutive",
    "Fit",
    "Holdout",
    "MultiTaskData",
    "Task",
    "TrainingDivergedError",
    "UsageError",
    "fit",
    "fit_trials",
    "select",
]

_HOMES = {
    "Consecutive": "mtlbook.data.multi_task_data",
    "Fit": "mtlbook.training.fit",
    "Holdout": "mtlbook.data.multi_task_data",
    "MultiTaskData": "mtlbook.data.multi_task_data",
    "Task": "mtlbook.tasks",
    "TrainingDivergedError": "mtlbook.training.fit",
    "UsageError": "mtlbook.errors",
    "fit": "mtlbook.training.fit",
    "fit_trials": "mtlbook.training.fit",
    "select": "mtlbook.training.selection",
}


def __getattr__(name: str) -> Any:
    """Import a public name's module when it is first asked for: PyTorch takes seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
