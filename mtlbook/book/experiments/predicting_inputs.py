"""Section 7.6's contestants: a feature as an input, as an output, as nothing, and In-N-Out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from mtlbook.auxiliary.auxiliary_task import add_auxiliary
from mtlbook.auxiliary.predicting_inputs import Features, Tied, imputed, pseudo_labelled
from mtlbook.book.data.worlds.caruana_table_6 import (
    BITS,
    LABEL,
    MAIN,
    caruana_table_6,
    noisy_features,
)
from mtlbook.book.experiments.auxiliary_tasks import alone, beside
from mtlbook.book.experiments.cost import cost
from mtlbook.book.experiments.networks import dense, hard_sharing
from mtlbook.book.experiments.results import trained_network
from mtlbook.book.experiments.training import adam, train, tuned
from mtlbook.book.page import Page
from mtlbook.data import embedded
from mtlbook.data.multi_task_data import Consecutive, Holdout, MultiTaskData
from mtlbook.data.scaling import RawTable, scaled, standardised
from mtlbook.randomness import generator
from mtlbook.sharing.hard import HardSharing
from mtlbook.tasks import Task
from mtlbook.training.sampling import Balanced, Mixed
from mtlbook.training.selection import Selected
from mtlbook.weighting.linear_scalarisation import LinearScalarisation

ROLES = ("input", "output", "nothing")
BOUNDED = ("f1", "f2")  # shares, which a logistic unit gives
CODES = 2 * BITS
COPIES = 4
NOISY = {f"{'AB'[number % 2]}{number // 2 + 1}": CODES + number for number in range(2 * COPIES)}
SERUM = {f"s{number}": 3 + number for number in range(1, 7)}  # of the diabetes set


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Data whose inputs hold the features, and how networks are trained on them.

    Attributes:
        data: from a seed to its data, in units of its training rows.
        main: the task that counts.
        columns: the features' columns by name.
        split: of the rows.
        width: hidden units.
        steps: of the optimiser, each on all training rows.
        rates: of Adam; a feature as an output has the last one alone.
        weights: λ of each feature as an output, as many as there are rates.
        penalties: of L2.
    """

    data: Callable[[int], MultiTaskData]
    main: str
    columns: Mapping[str, int]
    split: Holdout
    width: int = 16
    steps: int = 150
    rates: Sequence[float] = (0.01, 0.03)
    weights: Sequence[float] = (0.1, 1.0)
    penalties: Sequence[float] = (0.03, 0.1)

    def of(self, role: str) -> Callable[[int], MultiTaskData]:
        """Each seed's data with the features in a role."""
        return cache(lambda seed: Features(self.columns, role).of(self.data(seed)))

    def mixed_up(self) -> "Setting":
        """The setting with the features' values shuffled among the rows, all alike: the control."""

        @cache
        def data(seed: int) -> MultiTaskData:
            own, columns = self.data(seed), list(self.columns.values())
            inputs = own.inputs.clone()
            order = torch.randperm(own.rows, generator=generator(seed, "mixed up"))
            inputs[:, columns] = inputs[order][:, columns]
            return MultiTaskData(own.tasks, inputs, own.targets, own.labelled)

        return replace(self, data=data)

    def trials(self, rates: Sequence[float]) -> dict[str, dict[str, Any]]:
        """Adam with each of the rates and each L2 penalty."""
        return {
            f"rate {rate:g}, penalty {penalty:g}": {"optimiser": adam(rate, penalty)}
            for rate in rates
            for penalty in self.penalties
        }

    @property
    def training(self) -> dict[str, Any]:
        """What all contestants have in common."""
        return {
            "split": self.split,
            "sampler": Mixed(None),
            "steps": self.steps,
            "width": self.width,
            "validate_every": max(1, self.steps // 15),
            "evaluate_on": ("validation", "test"),
        }

    def trained(self, **other: Any) -> dict[str, Any]:
        """The same with some settings in place of these."""
        return self.training | other


def network(data: MultiTaskData, seed: int, *, width: int) -> HardSharing:  # noqa: ARG001
    """One hidden layer of tanh units and a head a task, logistic where the target is a share."""
    assert isinstance(data.inputs, Tensor)
    return hard_sharing(dense(data.inputs.shape[1], width), data.tasks, width, head=_head)


def _head(width: int, task: Task) -> nn.Module:
    linear = nn.Linear(width, task.outputs)
    return nn.Sequential(linear, nn.Sigmoid()) if task.name in BOUNDED else linear


def contestant(page: Page, setting: Setting, role: str) -> Selected:
    """The main task with the features in a role, tuned by its own validation loss.

    As an output they have λ to try, as inputs or as nothing more learning rates: equally many
    trials in all.
    """
    data, main = setting.of(role), setting.main
    if role == "output":
        return beside(
            page,
            network,
            data,
            main,
            list(setting.columns),
            values=setting.weights,
            trials=setting.trials(setting.rates[-1:]),
            **setting.training,
        )
    tried = setting.trials(setting.rates)
    return alone(page, network, data, main, trials=tried, **setting.training)


def costs(setting: Setting, seed: int) -> dict[str, dict[str, Any]]:
    """What a network costs with the features in each role."""
    found = {}
    for role in ROLES:
        data = setting.of(role)(seed)
        rows = setting.split.draw(data, seed).train
        model = network(data, seed, width=setting.width).double()
        found[role] = cost(model, data.subset(rows).inputs)
    return found


def missing_at_test(page: Page, setting: Setting, chosen: Selected) -> Float[np.ndarray, " seeds"]:
    """The test loss of networks with the features as inputs, where these are missing then.

    Each feature's column holds the mean of the training rows.
    """
    found = []
    for seed in page.seeds:
        data = setting.data(seed)
        split = setting.split.draw(data, seed)
        inputs = imputed(data.inputs, list(setting.columns.values()), split.train)[split.test]
        task = next(own for own in data.tasks if own.name == setting.main)
        prediction = trained_network(chosen, seed)(inputs)[task.name]
        found.append(float(task.loss(prediction, data.targets[task.name][split.test]).mean()))
    return np.array(found)


def table_6(*, related: bool = True, width: int = 16, steps: int = 400) -> Setting:
    """Caruana's sizes: 50 rows to learn from, 1,000 to stop by, 1,000 to test on."""

    @cache
    def data(seed: int) -> MultiTaskData:
        return caruana_table_6(seed, rows=2050, related=related).data

    return Setting(
        data=data,
        main=MAIN,
        columns={"f2": CODES},
        split=Consecutive(train=50, validation=1000, test=1000),
        width=width,
        steps=steps,
        rates=(0.03, 0.01),
        penalties=(0.0, 0.0001, 0.0003),
    )


def with_noise(noise: float, *, related: bool = True, rows: int = 50) -> Setting:
    """A label drawn with the probability F1, and A and B as features with noise."""
    split = Consecutive(train=rows, validation=200, test=1000)

    @cache
    def data(seed: int) -> MultiTaskData:
        made = noisy_features(
            seed, rows=rows + 1200, noise=noise, copies=COPIES, related=related
        ).data
        return scaled(made, split, seed, columns=list(NOISY.values()))

    return Setting(data=data, main=LABEL, columns=NOISY, split=split)


def mixed_rows(table: MultiTaskData | RawTable, split: Consecutive, seed: int) -> MultiTaskData:
    """A table's rows in a random order, as many as the split has, in units of its training rows.

    A random split depends on the names of the tasks that a row is labelled for, and features as
    outputs are further tasks: in this order all roles have the same rows.
    """
    whole = table.filled() if isinstance(table, RawTable) else table
    wanted = split.train + split.validation + split.test
    order = torch.randperm(whole.rows, generator=generator(seed, "mixed rows"))
    return scaled(whole.subset(order[:wanted]), split, seed)


def diabetes(rows: int = 60) -> Setting:
    """The progression of diabetes from age, sex, weight and blood pressure; six blood values."""
    split = Consecutive(train=rows, validation=100, test=250)
    table = embedded.diabetes()
    return Setting(
        data=cache(partial(mixed_rows, table, split)),
        main=table.tasks[0].name,
        columns=SERUM,
        split=split,
        penalties=(0.01, 0.1),
    )


# Out of distribution ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Shifted:
    """Labelled rows of one distribution, and unlabelled rows with features of it and another.

    Validation rows are of the first one, of the test rows the first half.

    Attributes:
        noise, shift, related: as in `noisy_features`.
        labelled, unlabelled, validation, test: rows; of the unlabelled and the test rows as many
            again are of the other distribution.
    """

    noise: float
    shift: float
    related: bool = True
    labelled: int = 50
    unlabelled: int = 200
    validation: int = 200
    test: int = 500

    @property
    def few(self) -> Setting:
        """The labelled rows alone, for networks that learn from nothing else."""
        split = Consecutive(self.labelled, self.validation, 2 * self.test)
        return Setting(
            data=cache(lambda seed: self._rows(seed, ("labelled", "validation", "test"))),
            main=LABEL,
            columns=NOISY,
            split=split,
        )

    @property
    def many(self) -> Setting:
        """All rows, of which few carry the label: for features as outputs."""
        train = self.labelled + 2 * self.unlabelled
        split = Consecutive(train, self.validation, 2 * self.test)
        parts = ("labelled", "unlabelled", "other", "validation", "test")
        data = cache(lambda seed: self._rows(seed, parts))
        return Setting(data=data, main=LABEL, columns=NOISY, split=split)

    def _rows(self, seed: int, parts: Sequence[str]) -> MultiTaskData:
        sizes = (self.labelled, self.unlabelled, self.validation, self.test)
        made = partial(noisy_features, seed, noise=self.noise, copies=COPIES, related=self.related)
        here = made(rows=sum(sizes)).data
        there = made(rows=self.unlabelled + self.test, shift=self.shift).data
        names = ("labelled", "unlabelled", "validation", "test")
        rows = dict(zip(names, torch.arange(here.rows).split(sizes), strict=True))
        other, beyond = (here.rows + torch.arange(there.rows)).split([self.unlabelled, self.test])
        rows |= {"other": other, "test": torch.cat([rows["test"], beyond])}
        inputs = torch.cat([here.inputs, there.inputs])
        columns = list(NOISY.values())
        inputs[:, columns] = standardised(inputs[:, columns], inputs[rows["labelled"]][:, columns])
        target = torch.cat([here.targets[LABEL], there.targets[LABEL]])
        known = torch.ones(len(inputs), dtype=torch.bool)
        known[rows["unlabelled"]] = known[other] = False
        joint = MultiTaskData.partial(here.tasks, inputs, {LABEL: target}, {LABEL: known})
        return joint.subset(torch.cat([rows[part] for part in parts]))


def in_n_out(
    page: Page, shifted: Shifted, with_inputs: Selected, *, shares: Sequence[float] = (0.5, 0.8)
) -> dict[str, Selected]:
    """Pre-training on the features of all rows, and then labels alone, or pseudo-labels, too.

    Arguments:
        page: whose seeds and device are used.
        shifted: the rows.
        with_inputs: the networks with the features as inputs, which give the pseudo-labels.
        shares: w of the pseudo-labels' loss.
    """
    many, few = shifted.many, shifted.few
    half: dict[str, Any] = {"steps": few.steps // 2, "validate_every": max(1, few.steps // 30)}
    before = train(
        page,
        network,
        many.of("output"),
        tasks=list(NOISY),
        optimiser=adam(few.rates[-1], few.penalties[0]),
        stopping="sum",
        **many.trained(sampler=Mixed(100), **half),
    )

    def start(model: nn.Module, seed: int) -> None:
        own = model.network if isinstance(model, Tied) else model
        trained = before.model(seed).get_submodule("trunk")
        own.get_submodule("trunk").load_state_dict(trained.state_dict())

    @cache
    def pseudo(seed: int) -> MultiTaskData:
        data = many.data(seed)
        rows = torch.ones(data.rows, dtype=torch.bool)
        # Neither the labelled rows nor those of the other distribution, where its features mislead.
        rows[: shifted.labelled] = False
        rows[shifted.labelled + shifted.unlabelled : shifted.labelled + 2 * shifted.unlabelled] = 0
        guessed = torch.sigmoid(trained_network(with_inputs, seed)(data.inputs)[LABEL])
        return pseudo_labelled(many.of("nothing")(seed), LABEL, guessed, rows)

    def tied(data: MultiTaskData, seed: int, *, width: int) -> Tied:
        own = data.subset(torch.arange(1), tasks=data.tasks[:1])
        return Tied(network(own, seed, width=width), LABEL)

    after = few.trials(few.rates)
    mixes = {
        f"w {share:g}": LinearScalarisation({LABEL: 1 - share, "pseudo": share}) for share in shares
    }
    second = {
        f"{name}, {trial}": own | {"combiner": mix}
        for name, mix in mixes.items()
        for trial, own in few.trials(few.rates[-1:]).items()
    }
    return {
        "output, pre-trained": alone(
            page,
            network,
            few.of("nothing"),
            LABEL,
            trials=after,
            start=start,
            **few.trained(**half),
        ),
        "In-N-Out": tuned(
            page,
            tied,
            pseudo,
            second,
            stopping=LABEL,
            start=start,
            **many.trained(sampler=Balanced(shifted.labelled), **half),
        ),
    }


def outputs_of_all_rows(page: Page, shifted: Shifted) -> Selected:
    """The labels beside the features of all rows: the same rows as In-N-Out, and one training.

    A step has as many labelled rows as the others' and as many rows for the features, which are the
    outputs of one task: λ counts each feature as it does elsewhere.
    """
    many = shifted.many

    @cache
    def data(seed: int) -> MultiTaskData:
        whole = many.data(seed)
        values = whole.inputs[:, list(NOISY.values())]
        together = Task.regression("features", outputs=len(NOISY))
        return add_auxiliary(many.of("nothing")(seed), together, values)

    return beside(
        page,
        network,
        data,
        LABEL,
        ["features"],
        values=[len(NOISY) * weight for weight in many.weights],
        trials=many.trials(many.rates[-1:]),
        **many.trained(sampler=Balanced(shifted.labelled)),
    )


def out_of_distribution(
    page: Page, shifted: Shifted, *, stages_alone: bool = False
) -> dict[str, dict[str, Float[np.ndarray, " seeds"]]]:
    """The test loss of each use of the features, in distribution and out of it.

    Arguments:
        page: whose seeds and device are used.
        shifted: the rows.
        stages_alone: only In-N-Out and what its stages are made of.
    """
    arms = {"features as inputs": contestant(page, shifted.few, "input")}
    arms |= in_n_out(page, shifted, arms["features as inputs"])
    if not stages_alone:
        arms["features as outputs"] = contestant(page, shifted.few, "output")
        arms["features dropped"] = contestant(page, shifted.few, "nothing")
        arms["outputs of all rows"] = outputs_of_all_rows(page, shifted)
    return {name: losses_by_part(page, shifted, own) for name, own in arms.items()}


def losses_by_part(
    page: Page, shifted: Shifted, chosen: Selected
) -> dict[str, Float[np.ndarray, " seeds"]]:
    """The test loss in distribution and out of it."""
    found: dict[str, list[float]] = {"in": [], "out": []}
    for number, seed in enumerate(page.seeds):
        fit = chosen.fits[chosen.choices.loc[seed, LABEL]]
        logits = torch.from_numpy(fit.predictions[LABEL][number])
        target = shifted.few.data(seed).targets[LABEL][-2 * shifted.test :]
        each = binary_cross_entropy_with_logits(logits, target, reduction="none")
        for part, own in zip(found, each.split(shifted.test), strict=True):
            found[part].append(float(own.mean()))
    return {part: np.array(own) for part, own in found.items()}
