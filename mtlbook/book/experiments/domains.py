"""How far two domains lie apart, and what it costs to hide it: the measures of section 7.2."""

import math

import torch
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from mtlbook.errors import UsageError
from mtlbook.randomness import generator


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
