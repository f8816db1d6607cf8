"""What the experiments of several pages do: networks, equal trials, tidy frames, paired contrasts.

A page trains by `train`, `search` or `tuned`, reads results by `scores`, `errors` and
`error_reduction`, and shows them by `tidy`, `contrasts` and `text_table`.
"""

from mtlbook.book.experiments.networks import (
    dense,
    hard_sharing,
    linear_head,
    mlp,
    separate_networks,
)
from mtlbook.book.experiments.results import (
    error_reduction,
    error_reductions,
    errors,
    mean_error,
    mostly_chosen,
    relative_loss,
    scores,
    tasks_of,
    trained_network,
)
from mtlbook.book.experiments.tables import (
    contrasts,
    estimate,
    means,
    standing,
    text_table,
    tidy,
    with_interval,
)
from mtlbook.book.experiments.training import (
    adam,
    adamw,
    adamw_trials,
    crossed,
    search,
    train,
    tuned,
    units,
)

__all__ = [
    "adam",
    "adamw",
    "adamw_trials",
    "contrasts",
    "crossed",
    "dense",
    "error_reduction",
    "error_reductions",
    "errors",
    "estimate",
    "hard_sharing",
    "linear_head",
    "mean_error",
    "means",
    "mlp",
    "mostly_chosen",
    "relative_loss",
    "scores",
    "search",
    "separate_networks",
    "standing",
    "tasks_of",
    "text_table",
    "tidy",
    "train",
    "trained_network",
    "tuned",
    "units",
    "with_interval",
]
