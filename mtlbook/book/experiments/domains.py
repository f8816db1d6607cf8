"""How far two domains lie apart, and what it costs to hide it: the measures of section 7.2."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from mtlbook.auxiliary.adversarial import adversarial_sgd, annealing
from mtlbook.book.experiments.results import Trained, trained_network
from mtlbook.book.experiments.training import tuned
from mtlbook.book.page import Page
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.training.sampling import Mixed
from mtlbook.training.selection import Selected


def a_distance(error: float) -> float:
    """2 (1 − 2ε): 0 where the domains cannot be told apart, 2 where they always can.

    Arguments:
        error: ε, the error of a domain classifier on rows that it has not seen.
    """
    return 2 * (1 - 2 * error)


def least_joint_error(
    source: Float[Tensor, " classes"], target: Float[Tensor, " classes"]
) -> float:
    r"""What wholly invariant features cost where the labels' proportions differ.

    If the features have the same distribution in both domains, then so have the predictions, and

    $$\varepsilon_S + \varepsilon_T \ge \tfrac12\, d_{JS}(p_S, p_T)^2$$

    with the Jensen-Shannon divergence $d_{JS}^2$ in bits between the proportions of the labels
    (Zhao, Tachet des Combes, Zhang and Gordon, 2019, theorem 4.9, with no distance left between
    the features).

    Arguments:
        source: the proportion of each class in one domain.
        target: the same in the other.

    Example:
        >>> even = torch.tensor([0.5, 0.5])
        >>> least_joint_error(even, even), least_joint_error(even, torch.tensor([0.0, 1.0]))
        (0.0, 0.1556)
    """
    of_both = (source + target) / 2
    entropies = [float(torch.special.entr(p.double()).sum()) for p in (of_both, source, target)]
    divergence = (entropies[0] - (entropies[1] + entropies[2]) / 2) / math.log(2)
    return max(0.0, divergence) / 2  # rounding may leave a divergence of 0 just below


def proxy_a_distance(
    source: Float[Tensor, "source_rows features"],
    target: Float[Tensor, "target_rows features"],
    folds: int = 5,
    seed: int = 0,
) -> float:
    """How far apart a linear classifier finds two domains (Ben-David et al., 2007).

    `a_distance` of the balanced error (the mean of both domains' error rates, so that unequal
    numbers of rows do not matter) of a logistic regression, by cross-validation; by chance it can
    be a little below 0. Another classifier may find more: Ganin et al. take the best of several
    linear support vector machines.

    Arguments:
        source: features of one domain, one row an example.
        target: features of the other.
        folds: parts of the cross-validation.
        seed: of the order in which rows are dealt to the folds.

    Example:
        >>> left = torch.linspace(0, 1, 20).view(-1, 1)
        >>> proxy_a_distance(left, left + 5)
        2.0
    """
    fewest = min(len(source), len(target))
    if not 2 <= folds <= fewest:
        raise UsageError(
            f"{folds} folds of domains with {len(source)} and {len(target)} rows: choose from 2 "
            f"to {fewest} folds, so that each holds rows of both."
        )
    rows = torch.cat([source, target]).detach().cpu().double()
    is_target = torch.arange(len(rows)) >= len(source)
    order = torch.randperm(len(rows), generator=generator(seed, "proxy A-distance"))
    features, domains = rows[order].numpy(), is_target[order].numpy()
    logistic = LogisticRegression(class_weight="balanced", max_iter=1000)
    classifier = make_pipeline(StandardScaler(), logistic)
    guessed = cross_val_predict(classifier, features, domains, cv=StratifiedKFold(folds))
    return a_distance(1 - float(balanced_accuracy_score(domains, guessed)))


@dataclass(frozen=True)
class Inside:
    """What a network's trunk makes of the test rows of both domains.

    Attributes:
        features: of each row.
        of_target: which rows are the target domain's.
        labels: the class of each row; only a test may see those of the target.
    """

    features: Float[Tensor, "rows features"]
    of_target: Bool[Tensor, " rows"]
    labels: Int[Tensor, " rows"]


def inside(model: nn.Module, data: MultiTaskData, split: Holdout, seed: int) -> Inside:
    """The features of a seed's test rows; `data` is that of `two_domains`."""
    rows = split.draw(data, seed).test
    label, _, hidden = (task.name for task in data.tasks)
    labels = data.targets[label] + data.targets[hidden]  # 0 where a row does not carry it
    trunk = model.get_submodule("trunk")
    return Inside(trunk(data.inputs[rows]), data.labelled[hidden][rows], labels[rows])


def measured(
    networks: Mapping[int, nn.Module],
    data_of: Callable[[int], MultiTaskData],
    split: Holdout,
    *,
    distances: bool = False,
) -> pd.DataFrame:
    """Each seed's error rates on the test rows of both domains, a row a seed.

    Arguments:
        networks: by seed, each with a trunk, a head for the label, and a domain head.
        data_of: a seed's data, that of `two_domains`.
        split: the one that the networks were trained with.
        distances: adds the proxy A-distance, the accuracy of the fresh classifier behind it, and
            that of the network's own domain head.
    """
    found = []
    for seed, model in networks.items():
        data = data_of(seed)
        seen = inside(model, data, split, seed)
        heads: Any = model.get_submodule("heads")
        wrong = (next(iter(heads.values()))(seen.features).argmax(1) != seen.labels).double()
        row = {
            "seed": seed,
            "source error": float(wrong[~seen.of_target].mean()),
            "target error": float(wrong[seen.of_target].mean()),
        }
        if distances:
            domain_head = model.get_submodule(f"adversaries.{data.tasks[1].name}")
            right = (domain_head(seen.features)[:, 0] > 0) == seen.of_target
            distance = proxy_a_distance(
                seen.features[~seen.of_target], seen.features[seen.of_target]
            )
            row["own domain head"] = float(right.double().mean())
            row["fresh classifier"] = 0.5 + distance / 4
            row["proxy A-distance"] = distance
        found.append(row)
    return pd.DataFrame(found)


def alignment(seen: Inside) -> dict[str, float]:
    """Where the classes of two domains lie, in units of the spread of a class in a domain.

    How far the domains' means lie apart, how far the two means of a class (the mean over the
    classes), and for which share of the target's classes the nearest class mean of the source is
    that of the same class. The spread is the root mean squared distance from a class's own mean.
    """
    classes = sorted(set(seen.labels.tolist()))
    clusters = [
        [seen.features[(seen.of_target == side) & (seen.labels == k)] for k in classes]
        for side in (False, True)
    ]
    means = torch.stack([torch.stack([own.mean(0) for own in domain]) for domain in clusters])
    deviations = [own - own.mean(0) for domain in clusters for own in domain]
    spread = torch.cat(deviations).square().sum(1).mean().sqrt()
    between = torch.cdist(means[1], means[0])  # classes of the target × classes of the source
    domains = seen.features[seen.of_target].mean(0) - seen.features[~seen.of_target].mean(0)
    same = between.argmin(1) == torch.arange(len(classes))
    return {
        "domains apart": float(domains.norm() / spread),
        "same class apart": float(between.diagonal().mean() / spread),
        "nearest is the same class": float(same.double().mean()),
    }


def contestant(
    page: Page,
    network: Callable[..., nn.Module],
    data: Callable[[int], MultiTaskData],
    tasks: Sequence[str],
    *,
    rates: Sequence[float],
    seeds: Sequence[int] | None = None,
    **settings: Any,
) -> Selected:
    """A contestant of section 7.2: for each seed the learning rate with the least label loss.

    The first task is the label; its held-out rows choose. There is no early stopping. With a domain
    as second task a minibatch has 64 rows of both domains, else 32.

    Arguments:
        page: whose seeds and device are used.
        network: as for `tuned`.
        data: a seed's data, that of `two_domains`.
        tasks: names of the label and, for an adversarial network, of the domain.
        rates: the learning rates μ₀, which follow the papers' schedule.
        seeds: others than the page's.
        **settings: as for `tuned`; `steps` and `split` must be among them.
    """
    trials = {
        f"rate {r:g}": {"optimiser": partial(adversarial_sgd, learning_rate=r)} for r in rates
    }
    fixed = {"schedule": annealing, "stopping": None, "evaluate_on": ["validation"]}
    return tuned(
        page,
        network,
        data,
        trials,
        each_task=True,
        seeds=seeds,
        tasks=list(tasks),
        sampler=Mixed(64 if len(tasks) > 1 else 32),
        validate_every=settings["steps"],
        **fixed,
        **settings,
    )


def networks(trained: Trained, seeds: Sequence[int]) -> dict[int, nn.Module]:
    """The trained network of each seed."""
    return {seed: trained_network(trained, seed) for seed in seeds}
