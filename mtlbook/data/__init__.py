"""Data: embedded, constructed and downloaded sets, all of one shape."""

from mtlbook.data.multi_task_data import Holdout, MultiTaskData, Split

__all__ = ["Holdout", "MultiTaskData", "Split"]
