"""Section 7.1, a related task: rows in closed form and by networks, and auxiliaries that stop."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from mtlbook.auxiliary.auxiliary_task import shuffled
from mtlbook.auxiliary.linear_trunk import identity_gap
from mtlbook.auxiliary.related_task import (
    HELD_OUT,
    PooledRows,
    TaskwiseEarlyStopping,
    held_out_losses,
    on_means,
)
from mtlbook.book.data.worlds.related_rows import INPUTS, related_rows
from mtlbook.book.experiments.auxiliary_tasks import (
    alone,
    beside,
    equal_trials,
    zero_weight_gap,
)
from mtlbook.book.experiments.cost import cost
from mtlbook.book.experiments.networks import mlp
from mtlbook.book.experiments.training import Trials, adamw, adamw_trials, crossed, tuned
from mtlbook.book.page import Page
from mtlbook.data import embedded
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.randomness import generator, standard_normal
from mtlbook.tasks import Task
from mtlbook.training.context import Batch, StepContext
from mtlbook.training.objective import Objective, task_losses
from mtlbook.training.sampling import Balanced, Mixed, RowsOf, Streams
from mtlbook.training.selection import Selected, select

WEIGHTS = (0.015, 0.06, 0.25, 1.0)  # λ of losses summed over rows
TRIALS = 16  # of the linear models
THRESHOLD = 10.0  # ε of task-wise early stopping
VALIDATION, TEST = 200, 500


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Data with a main task and auxiliary ones, and how it is learnt.

    Attributes:
        data: from a seed to its data.
        main: the task that counts.
        auxiliaries: the others.
        rows: n, training labels of the main task.
        related_rows: n′, of each auxiliary task.
        split: with these training labels.
        activation, width: of the hidden layer.
        rates, decays: of AdamW; where several λ are tried, the last rate and the last decays.
        steps: of training.
        batch: rows a step, of each task.
    """

    data: Callable[[int], MultiTaskData]
    main: str
    auxiliaries: Sequence[str]
    rows: int
    related_rows: int
    split: Holdout
    activation: Callable[[], nn.Module] = nn.Tanh
    width: int = 16
    rates: tuple[float, float] = (0.003, 0.01)
    decays: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0)
    steps: int = 200
    batch: int = 32

    @property
    def common(self) -> dict[str, Any]:
        """What all contestants have in common."""
        return {
            "split": self.split,
            "steps": self.steps,
            "validate_every": 20,
            "evaluate_on": ("validation", "test"),
            "activation": self.activation,
            "width": self.width,
        }

    def on_means(self, weight: float) -> float:
        """λ of averaged losses for that of summed ones."""
        return on_means(weight, rows=self.rows, related_rows=self.related_rows)

    @property
    def trials(self) -> Trials:
        """Of one λ: two rates by four decays."""
        return adamw_trials(self.rates, self.decays)

    def shared_trials(self, weights: int) -> Trials:
        """Of each of several λ, so that all have as many as one λ has."""
        if weights == 1:
            return self.trials
        return adamw_trials(self.rates[-1:], self.decays[-(len(self.trials) // weights) :])


# Who is compared ------------------------------------------------------------------------------


def single(page: Page, setting: Setting) -> Selected:
    """The main task alone: its trials are two learning rates by four weight decays."""
    sampler = Balanced(setting.batch)
    return alone(
        page,
        mlp,
        setting.data,
        setting.main,
        trials=setting.trials,
        sampler=sampler,
        **setting.common,
    )


def joint(page: Page, setting: Setting, *weights: float) -> Selected:
    """Beside the auxiliary tasks, with as many trials as alone.

    Of one λ (of summed losses) there are two rates by four decays, of four λ (by default `WEIGHTS`)
    two decays each.
    """
    weights = weights or WEIGHTS
    return beside(
        page,
        mlp,
        setting.data,
        setting.main,
        setting.auxiliaries,
        values=[setting.on_means(weight) for weight in weights],
        trials=setting.shared_trials(len(weights)),
        sampler=Balanced(setting.batch),
        **setting.common,
    )


def with_own_stopping(page: Page, setting: Setting) -> Selected:
    """As `joint`, but each auxiliary task stops on its own by its training and validation losses.

    The trials are those of `joint`: nothing differs but the rule.
    """
    tried = crossed(
        {
            f"λ {setting.on_means(weight):g}": {
                "combiner": TaskwiseEarlyStopping(
                    setting.main,
                    dict.fromkeys(setting.auxiliaries, setting.on_means(weight)),
                    threshold=THRESHOLD,
                )
            }
            for weight in WEIGHTS
        },
        setting.shared_trials(len(WEIGHTS)),
    )
    names = [setting.main, *setting.auxiliaries]
    example = setting.data(page.seeds[0])
    rows = {name: RowsOf(task=name) for name in names}
    rows |= {f"{name}{HELD_OUT}": RowsOf("validation", name) for name in setting.auxiliaries}
    return tuned(
        page,
        mlp,
        setting.data,
        tried,
        tasks=names,
        stopping=setting.main,
        sampler=Streams(setting.batch, rows=rows),
        objective=with_held_out([task for task in example.tasks if task.name in names]),
        **setting.common,
    )


def contestants(page: Page, setting: Setting, *, stopping: bool = False) -> dict[str, Selected]:
    """By name: the main task alone, beside the others with a chosen λ, and with λ = 1.

    Arguments:
        page: whose seeds and device are used.
        setting: the data.
        stopping: auxiliary tasks that stop on their own, too.
    """
    found = {
        "single-task": single(page, setting),
        "related, λ chosen": joint(page, setting),
        "λ = 1": joint(page, setting, 1.0),
    }
    if stopping:
        found["own stopping"] = with_own_stopping(page, setting)
    equal_trials(*found.values())
    return found


def with_held_out(tasks: Sequence[Task]) -> Objective:
    """Each task's loss on a batch of its stream, and the auxiliary ones' on held-out rows.

    Arguments:
        tasks: the main task first; streams have their names, and those of the held-out rows.
    """
    plain = task_losses(tasks, {task.name: [task.name] for task in tasks})
    auxiliaries = {f"{task.name}{HELD_OUT}": task for task in tasks[1:]}

    def compute(
        model: nn.Module, batches: Mapping[str, Batch], context: StepContext
    ) -> dict[str, torch.Tensor]:
        training = plain.compute(model, {name: batches[name] for name in plain.names}, context)
        held_out = {}
        with torch.no_grad():
            for stream, task in auxiliaries.items():
                predicted = model(batches[stream].inputs)[task.name]
                held_out[task.name] = task.loss(
                    predicted, batches[stream].targets[task.name]
                ).mean()
        return held_out_losses(training, held_out)

    return Objective((*plain.names, *auxiliaries), compute)


def at_weight(chosen: Selected, setting: Setting, weight: float) -> Selected:
    """The trials of one λ (of summed losses) alone, and the choice among them."""
    name = f"λ {setting.on_means(weight):g},"
    return select(
        {trial: own for trial, own in chosen.fits.items() if trial.startswith(name)}, each_task=True
    )


def stopping_steps(chosen: Selected, main: str) -> Float[np.ndarray, "seeds auxiliaries"]:
    """When each auxiliary task stopped in each seed's chosen network; NaN where it did not."""
    found = []
    for seed, name in chosen.choices[main].items():
        combiner = chosen.fits[str(name)].combiner(int(str(seed)))
        assert isinstance(combiner, TaskwiseEarlyStopping)
        found.append(combiner.stopped_at.double().numpy())
    steps = np.array(found)
    return np.where(steps > 0, steps, np.nan)


# Data -----------------------------------------------------------------------------------------


def constructed(*, cosine: float, times: int = 16, mixed_up: bool = False) -> Setting:
    """`related_rows` behind a tanh: 50 rows of the main task, noise of 0.5.

    Arguments:
        cosine: ρ.
        times: n′ / n.
        mixed_up: the control, in which the related labels are shuffled.
    """
    rows = 50
    total = times * rows + VALIDATION + TEST

    @cache
    def data(seed: int) -> MultiTaskData:
        made = related_rows(seed, rows=total, cosine=cosine, noise=0.5, linear=False).data
        return shuffled(made, "related", seed) if mixed_up else made

    return Setting(
        data=data,
        main="main",
        auxiliaries=["related"],
        rows=rows,
        related_rows=times * rows,
        split=Holdout(times * rows, VALIDATION, TEST, labels={"main": rows}),
    )


def three_auxiliaries(*, rows: int = 50, times: int = 2) -> Setting:
    """Three auxiliary tasks that are learnt at different speeds: a near, a far, and a noisy one."""
    cosine = {"near": 0.9, "far": 0.3, "noisy": 0.9}
    noise = {"main": 0.5, "near": 0.5, "far": 0.5, "noisy": 2.0}

    @cache
    def data(seed: int) -> MultiTaskData:
        return related_rows(
            seed,
            rows=times * rows + VALIDATION + TEST,
            tasks=list(noise),
            cosine=cosine,
            noise=noise,
            linear=False,
        ).data

    return Setting(
        data=data,
        main="main",
        auxiliaries=list(cosine),
        rows=rows,
        related_rows=times * rows,
        split=Holdout(times * rows, VALIDATION, TEST, labels={"main": rows}),
        batch=16,
    )


def from_digits(*, mixed_up: bool = False) -> Setting:
    """Handwritten digits: is it odd, and beside that: has it a loop, is it above four.

    The main task has 50 labels, the auxiliary ones 800 each, on the same images and on others.

    Arguments:
        mixed_up: the auxiliary labels are shuffled among all images. Within the main task's classes
            they would tell that class on 750 images whose main label is not known.
    """
    rows, times, auxiliaries = 50, 16, ["loop", "above_four"]
    images = embedded.digits("parity", *auxiliaries)

    def data(seed: int) -> MultiTaskData:
        found = images
        for name in auxiliaries if mixed_up else ():
            found = shuffled(found, name, seed)
        return found

    return Setting(
        data=data,
        main="parity",
        auxiliaries=auxiliaries,
        rows=rows,
        related_rows=times * rows,
        split=Holdout(times * rows, VALIDATION, TEST, labels={"parity": rows}),
        activation=nn.ReLU,
        batch=16,
    )


# The closed form ------------------------------------------------------------------------------


def measured_risks(
    seed: int, pooled_rows: PooledRows, weights: Sequence[float], *, draws: int = 8
) -> Float[np.ndarray, " weights"]:
    """The main task's excess risk by weighted least squares on orthonormal designs.

    Arguments:
        seed: of the draws.
        pooled_rows: the two tasks.
        weights: λ of losses summed over rows.
        draws: of both tasks' data, over which the risk is averaged.
    """
    n, more, d = pooled_rows.rows, pooled_rows.related_rows, pooled_rows.inputs
    rho, sigma = pooled_rows.cosine, pooled_rows.noise
    w, other = torch.eye(d, dtype=torch.float64)[:2]
    related = rho * w + (1 - rho**2) ** 0.5 * other

    def drawn(name: str, rows: int, own: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        source = generator(seed, "measured risks", name)
        raw = standard_normal(source, draws, rows, d + 1)
        x = rows**0.5 * torch.linalg.qr(raw[..., :d]).Q
        y = x @ own + sigma * raw[..., d]
        return x.mT @ x, (x.mT @ y.unsqueeze(-1)).squeeze(-1)

    gram, moments = drawn("main", n, w)
    gram2, moments2 = drawn("related", more, related)
    found = [
        torch.linalg.solve(gram + weight * gram2, moments + weight * moments2) for weight in weights
    ]
    return np.array([float((own - w).square().sum(-1).mean()) for own in found])


def measured_worth(
    seeds: Sequence[int], pooled_rows: PooledRows, weight: float, *, draws: int = 48
) -> Float[np.ndarray, " seeds"]:
    """The effective rows of the main task by each seed's `measured_risks`."""
    risks = [measured_risks(seed, pooled_rows, [weight], draws=draws)[0] for seed in seeds]
    return pooled_rows.spread / np.array(risks)


# Limiting cases, and what it costs ------------------------------------------------------------


def limiting_cases(page: Page) -> dict[str, float]:
    """How far linear trunks, and λ = 0, move the main task's predictions; on the same rows."""

    def data(seed: int) -> MultiTaskData:
        return related_rows(seed, rows=300, cosine=0.7, same_rows=True).data

    zero = zero_weight_gap(
        page,
        mlp,
        data,
        "main",
        ["related"],
        split=Holdout(100, 100, 100),
        steps=20,
        sampler=Mixed(32),
        optimiser=adamw(0.01, 1.0),
    )
    return {"linear trunk": identity_gap(data(page.seeds[0]), "main"), "λ = 0": zero}


def costs(setting: Setting) -> dict[str, dict[str, Any]]:
    """Parameters and training FLOPs of the network alone, and beside the auxiliary tasks."""
    data = setting.data(0)
    few = torch.arange(4)
    found = {}
    for name, tasks in (("single-task", data.tasks[:1]), ("beside a related task", data.tasks)):
        own = data.subset(few, tasks=tasks)
        network = mlp(own, 0, width=setting.width, activation=setting.activation).double()
        found[name] = cost(network, own.inputs) | {"examples a step": setting.batch * len(tasks)}
    return found


@dataclass(frozen=True, kw_only=True)
class Ridge:
    """One linear model of both tasks, each λ and each penalty a trial, chosen on validation rows.

    It minimises ‖y − X w‖² + λ ‖y′ − X′ w‖² + κ ‖w‖², solved exactly, on `related_rows`: normal
    designs, noise of 1.

    Attributes:
        cosine: ρ.
        rows: n.
        times: n′ / n.
        mixed_up: the control, in which the related labels are shuffled.
        same_rows: the related labels lie on the main task's rows, as far as there are any.
    """

    cosine: float
    rows: int = 50
    times: int = 16
    mixed_up: bool = False
    same_rows: bool = False

    @property
    def theory(self) -> PooledRows:
        """What the formulas are about, but for the designs."""
        return PooledRows(
            rows=self.rows,
            related_rows=self.times * self.rows,
            cosine=self.cosine,
            inputs=INPUTS,
            noise=1.0,
        )

    def error(self, seeds: Sequence[int], *weights: float) -> Float[np.ndarray, " seeds"]:
        """The mean squared error of each seed's chosen model, over all inputs that there may be.

        Arguments:
            seeds: of the data.
            weights: λ of summed losses; without any the main task alone. `TRIALS` are shared out
                among them: the fewer λ, the more penalties are tried.
        """
        tried = weights or (0.0,)
        penalties = np.geomspace(0.3, 300, TRIALS // len(tried))
        return np.array([self._of_seed(seed, tried, penalties) for seed in seeds])

    def _of_seed(self, seed: int, weights: Sequence[float], penalties: np.ndarray) -> float:
        total = VALIDATION + self.times * self.rows
        made = related_rows(seed, rows=total, cosine=self.cosine, same_rows=self.same_rows)
        data = shuffled(made.data, "related", seed) if self.mixed_up else made.data
        x, y = (_rows(data, "main", part) for part in ("inputs", "targets"))
        x2, y2 = (_rows(data, "related", part)[VALIDATION:] for part in ("inputs", "targets"))
        x_val, y_val = x[:VALIDATION], y[:VALIDATION]
        own = slice(VALIDATION, VALIDATION + self.rows)
        gram, moment = x[own].T @ x[own], x[own].T @ y[own]
        gram2, moment2 = x2.T @ x2, x2.T @ y2
        eye = torch.eye(INPUTS, dtype=torch.float64)
        pairs = [(weight, float(penalty)) for weight in weights for penalty in penalties]
        found = [
            torch.linalg.solve(gram + weight * gram2 + penalty * eye, moment + weight * moment2)
            for weight, penalty in pairs
        ]
        validation = [float((x_val @ w - y_val).square().mean()) for w in found]
        best = found[int(np.argmin(validation))]
        return made.least_loss["main"] + float((best[:, 0] - made.heads["main"]).square().sum())


def _rows(data: MultiTaskData, task: str, part: str) -> Float[torch.Tensor, "rows _"]:
    """The inputs or the targets of the rows that carry a task's label."""
    values = data.inputs if part == "inputs" else data.targets[task]
    return values[data.labelled[task]]
