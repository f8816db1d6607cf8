r"""Section 7.4: focusing attention on a small faint digit of MNIST beside a large one.

The page's experiment in another place (`mtlbook.book.data.small_digit`): images of 14 × 21 pixels
with a large 6 or 7 on the left, which agrees with a binary label with probability 0.85, and two
small digits from 0 to 5, of 7 × 7 pixels and 0.3 of its darkness, on the right. The parity of the
upper one agrees with the label with probability 0.98; the lower one has nothing to do with it. Each
seed makes 1,000 training, 500 validation and 2,000 test images, the test images of MNIST's own test
part.

The contestants are those of the page (`mtlbook.book.experiments.focusing_attention`): one hidden
layer of 16 rectified units, and the main label alone; beside the upper small digit (six classes,
known in training alone); beside the same labels shuffled within the classes of the main label;
beside the lower small digit; and the main label from the upper digit's pixels alone. Everyone takes
400 steps of AdamW with 32 rows a step and has six trials, two learning rates times three weight
decays, or times three weights λ of the auxiliary loss. For each seed the main label's validation
loss chooses trial and stopping point; in validation the large digit agrees with the label as it
does in training.

Metrics on test images: the `error` of the main label; the `decoupled error`, with the large digit
drawn anew without regard to the label; the `cue share` of the squared input gradients. A minute and
a half on one core. Fixed after pilots on seeds from 7000.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import pandas as pd

from mtlbook.book.data import small_digit as digits
from mtlbook.book.experiments.auxiliary_tasks import equal_trials, strengths
from mtlbook.book.experiments.focusing_attention import (
    MAIN,
    STRENGTHS,
    Setting,
    common,
    measured_all,
)
from mtlbook.book.experiments.networks import mlp
from mtlbook.book.experiments.training import adamw_trials, crossed
from mtlbook.data.multi_task_data import Consecutive, MultiTaskData
from mtlbook.training.fit import fit_trials
from mtlbook.training.selection import Selected, select
from mtlbook.training.settings import Settings, Trial

SECTION = "7.4"
DATA = ("mnist",)
SEEDS = 32

SPLIT = Consecutive(train=1000, validation=500, test=2000)
STEPS = 400
WIDTH = 16
RATES, DECAYS, JOINT_DECAY = (0.03, 0.1), (0.01, 0.03, 0.1), 0.03


def run(seeds: Sequence[int], device: str, steps: int = STEPS) -> pd.DataFrame:
    """Columns seed, method, metric and value."""

    @cache
    def images(seed: int, decoupled: bool) -> MultiTaskData:
        return digits.small_digit_mnist(seed, SPLIT, decoupled=decoupled)

    area = digits.regions(digits.MNIST_SIDE)["cue"]
    whole = Setting(images, area, SPLIT, WIDTH, RATES, DECAYS, JOINT_DECAY)
    found = contestants(whole, seeds, device, steps)
    equal_trials(*found.values())
    rows = [
        {"seed": seed, "method": name, "metric": metric, "value": value}
        for name, metrics in measured_all(found, whole).items()
        for metric, values in metrics.items()
        for seed, value in zip(seeds, values, strict=True)
    ]
    return pd.DataFrame(rows)


def contestants(
    setting: Setting, seeds: Sequence[int], device: str, steps: int
) -> dict[str, Selected]:
    """Each contestant's trials, and each seed's choice among them."""
    own = adamw_trials(setting.rates, setting.decays)
    joint = adamw_trials(setting.rates, [setting.joint_decay])

    def chosen(
        data: Callable[[int], MultiTaskData], tasks: list[str], trials: Mapping[str, Any]
    ) -> Selected:
        kept = common(setting, steps=steps, tasks=tasks, stopping=MAIN, device=device)
        build = partial(mlp, width=kept.pop("width"), activation=kept.pop("activation"))
        each = {name: Trial(one["optimiser"], one.get("combiner")) for name, one in trials.items()}
        settings = Settings(progress_label="small digit", **kept)
        fits = fit_trials(build, data, seeds=seeds, trials=each, settings=settings)
        return select(fits, each_task=True)

    def beside(task: str, data: Callable[[int], MultiTaskData]) -> Selected:
        return chosen(data, [MAIN, task], crossed(strengths(MAIN, [task], STRENGTHS), joint))

    return {
        "single-task": chosen(setting.data, [MAIN], own),
        "beside the cue": beside("cue", setting.data),
        "other cue": beside("other_cue", setting.data),
        "shuffled": beside("cue", setting.tied_shuffle),
        "oracle": chosen(setting.cropped().data, [MAIN], own),
    }
