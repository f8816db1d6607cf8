"""Section 7.4, focusing attention: a label alone, beside a cue's label, and from the cue alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mtlbook.auxiliary.auxiliary_task import shuffled
from mtlbook.auxiliary.focusing_attention import squared_input_gradients
from mtlbook.book.data import small_digit as digits
from mtlbook.book.data.worlds import faint_cue as constructed
from mtlbook.book.experiments.auxiliary_tasks import alone, beside, equal_trials
from mtlbook.book.experiments.cost import cost
from mtlbook.book.experiments.networks import mlp
from mtlbook.book.experiments.results import trained_network
from mtlbook.book.experiments.training import adamw_trials
from mtlbook.book.page import Page
from mtlbook.data.multi_task_data import Consecutive, Holdout, MultiTaskData
from mtlbook.training.sampling import Mixed
from mtlbook.training.selection import Selected

MAIN = "label"
STRENGTHS = (0.3, 1.0, 3.0)  # λ of the auxiliary loss
STEPS, BATCH = 200, 32


@dataclass(frozen=True)
class Setting:
    """Images with a pattern and a cue, and how networks are trained on them.

    Attributes:
        images: from a seed, and whether the pattern is decoupled from the label, to data.
        area: the inputs of the cue.
        split: into parts.
        width: hidden units.
        rates: learning rates of all contestants.
        decays: weight decays of the main task alone.
        joint_decay: weight decay beside an auxiliary task, which has λ to try in its place.
    """

    images: Callable[[int, bool], MultiTaskData]
    area: Bool[Tensor, " inputs"]
    split: Holdout
    width: int
    rates: tuple[float, ...]
    decays: tuple[float, ...]
    joint_decay: float

    def data(self, seed: int) -> MultiTaskData:
        """A seed's images."""
        return self.images(seed, False)

    def tied_shuffle(self, seed: int) -> MultiTaskData:
        """The same with the cue's labels permuted within the classes of the main label."""
        return shuffled(self.data(seed), "cue", seed, within=MAIN)

    def cropped(self) -> "Setting":
        """The cue's area alone as input: what a network that attends to nothing else sees."""

        def images(seed: int, decoupled: bool) -> MultiTaskData:
            whole = self.images(seed, decoupled)
            inputs = whole.inputs[:, self.area]
            return MultiTaskData.multi_label(whole.tasks, inputs, whole.targets)

        every = torch.ones(int(self.area.sum()), dtype=torch.bool)
        return replace(self, images=cache(images), area=every)


def from_world(labels: int = 300, width: int = 16, cue: float = 0.6) -> Setting:
    """Constructed images (`mtlbook.book.data.worlds.faint_cue`), 200 for validation, 1,000 to test.

    Arguments:
        labels: training images.
        width: hidden units.
        cue: amplitude of the cue.
    """
    split = Holdout(labels, 200, 1000)

    @cache
    def images(seed: int, decoupled: bool) -> MultiTaskData:
        rows = labels + split.validation + split.test
        return constructed.faint_cue(seed, rows=int(rows), cue=cue, decoupled=decoupled).data

    area = constructed.regions()["cue"]
    return Setting(images, area, split, width, (0.03, 0.1), (0.1, 0.3, 1.0), 0.3)


def from_digits(labels: int = 300, width: int = 16) -> Setting:
    """A small digit beside a large one, of the embedded digits; parts as of `from_world`."""
    split = Consecutive(labels, 200, 1000)

    @cache
    def images(seed: int, decoupled: bool) -> MultiTaskData:
        return digits.small_digit(seed, split, decoupled=decoupled)

    area = digits.regions(digits.DIGITS_SIDE)["cue"]
    return Setting(images, area, split, width, (0.03, 0.1), (0.03, 0.1, 0.3), 0.1)


def common(setting: Setting, **changed: Any) -> dict[str, Any]:
    """What all trainings on a setting have in common."""
    return {
        "width": setting.width,
        "activation": nn.ReLU,
        "split": setting.split,
        "steps": STEPS,
        "sampler": Mixed(BATCH),
        "validate_every": 20,
        "evaluate_on": ["validation", "test"],
    } | changed


def unaided(page: Page, setting: Setting, **changed: Any) -> Selected:
    """The main task alone: each learning rate with each weight decay."""
    trials = adamw_trials(setting.rates, setting.decays)
    return alone(page, mlp, setting.data, MAIN, trials=trials, **common(setting, **changed))


def aided(
    page: Page,
    setting: Setting,
    auxiliary: str = "cue",
    *,
    data: Callable[[int], MultiTaskData] | None = None,
    **changed: Any,
) -> Selected:
    """The main task beside an auxiliary one: each learning rate with each λ.

    Arguments:
        page: whose seeds and device are used.
        setting: the images.
        auxiliary: the other task.
        data: other data than the setting's, such as shuffled ones.
        **changed: settings of the training.
    """
    return beside(
        page,
        mlp,
        setting.data if data is None else data,
        MAIN,
        [auxiliary],
        values=STRENGTHS,
        trials=adamw_trials(setting.rates, [setting.joint_decay]),
        **common(setting, **changed),
    )


def contestants(page: Page, setting: Setting) -> dict[str, Selected]:
    """The page's contestants on a setting, with equally many trials."""
    found = {
        "single-task": unaided(page, setting),
        "beside the cue": aided(page, setting),
        "other cue": aided(page, setting, "other_cue"),
        "shuffled": aided(page, setting, data=setting.tied_shuffle),
        "oracle": unaided(page, setting.cropped()),
    }
    equal_trials(*found.values())
    return found


def measured_all(
    arms: Mapping[str, Selected], setting: Setting
) -> dict[str, dict[str, Float[np.ndarray, " seeds"]]]:
    """What is measured of each contestant; the oracle is shown the cue alone."""
    views = {arm: setting.cropped() if arm == "oracle" else setting for arm in arms}
    return {arm: measured(own, views[arm]) for arm, own in arms.items()}


def costs(arms: Mapping[str, Selected], setting: Setting) -> pd.DataFrame:
    """Parameters and training FLOPs of each contestant, a row each."""
    rows = {}
    for arm, own in arms.items():
        seed = next(iter(own.fits.values())).seeds[0]
        inputs = (setting.cropped() if arm == "oracle" else setting).data(seed).inputs[:BATCH]
        rows[arm] = cost(trained_network(own, seed).requires_grad_(True), inputs)
    return pd.DataFrame(rows).T


def networks(trained: Selected, setting: Setting) -> list[tuple[nn.Module, MultiTaskData, Tensor]]:
    """Each seed's chosen network, its images with the pattern decoupled, and the test rows."""
    found = []
    fits = next(iter(trained.fits.values()))
    for place, seed in enumerate(fits.seeds):
        rows = torch.as_tensor(fits.test[place])
        found.append((trained_network(trained, seed), setting.images(seed, True), rows))
    return found


def decoupled_errors(trained: Selected, setting: Setting) -> Float[np.ndarray, " seeds"]:
    """The main task's test error where the pattern has nothing to do with the label."""
    found = []
    for network, data, rows in networks(trained, setting):
        said = network(data.inputs[rows])[MAIN] > 0
        found.append(float((said != data.targets[MAIN][rows].bool()).double().mean()))
    return np.array(found)


def saliency(trained: Selected, setting: Setting) -> Float[np.ndarray, "seeds inputs"]:
    """The squared input gradients of the main prediction, as shares of the test images' sum.

    A network all of whose units are off looks nowhere: its shares are 0.
    """
    found = []
    for place, (network, _, rows) in enumerate(networks(trained, setting)):
        seed = next(iter(trained.fits.values())).seeds[place]
        inputs = setting.data(seed).inputs[rows]
        squared = squared_input_gradients(partial(_main, network), inputs).sum(0)
        total = squared.sum()
        found.append((squared / total.where(total > 0, 1)).numpy())
    return np.stack(found)


def cue_shares(trained: Selected, setting: Setting) -> Float[np.ndarray, " seeds"]:
    """S_A of each seed's network on the test images, with A the cue's area."""
    return saliency(trained, setting)[:, setting.area.numpy()].sum(1)


def measured(trained: Selected, setting: Setting) -> dict[str, Float[np.ndarray, " seeds"]]:
    """What the page compares: both test errors of the main task, and the cue's share."""
    return {
        "error": trained.score(MAIN),
        "decoupled error": decoupled_errors(trained, setting),
        "cue share": cue_shares(trained, setting),
    }


def _main(network: nn.Module, inputs: Tensor) -> Tensor:
    return network(inputs)[MAIN]
