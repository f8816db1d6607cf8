r"""Section 4.3, eavesdropping: a task receives features that both use from an easier task.

A feature G may be easy to learn for task B and hard for task A, because A uses it in a more
complicated way, or because other inputs hide it. A network that learns both tasks gets G from B,
and A needs only listen (Caruana, 1997, section 3.1.3; Ruder, 2017, section 4.3). The most direct
form is a *hint*: an output that predicts the feature itself (Abu-Mostafa, 1990; Caruana calls it
a catalytic hint, after Suddarth and Kergosien, 1990).

`overheard_features` makes data in which this mechanism is alone at work, with a dial;
`feature_share` and `readability` look into the trained network for the features.
"""

from math import sqrt

import numpy as np
import torch
from jaxtyping import Float
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from torch import Tensor

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.data.synthetic import SyntheticDataset, check_counts, check_noise, check_shares, normal
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.tasks import Task

# Of the probe's ridge; chosen by its leave-one-out error on the rows that it is fitted to.
_RIDGES = np.logspace(-3, 3, 13)


def overheard_features(
    seed: int,
    *,
    rows: int,
    inputs: int = 20,
    features: int = 2,
    overlap: float = 1.0,
    noise: float = 0.3,
    flips: float = 0.0,
    shuffled: bool = False,
) -> SyntheticDataset:
    r"""A parity of hidden features, a task that uses them in an easier way, and the features.

    With $x \sim N(0, I)$, and $A$ and $A'$ two sets of $k$ orthonormal columns, orthogonal to each
    other and turned at random, so that every feature is spread over all inputs:

    $$g = x A, \qquad \text{hard} = \big[\textstyle\prod_{i=1}^k g_i > 0\big], \qquad
      \text{easy} = \arg\max_c \big(h^\top v_c + \sigma \varepsilon_c\big), \qquad
      \text{hints} = g,$$

    $$h = x \big(\rho A + \sqrt{1 - \rho^2}\, A'\big), \qquad
      v_c \in \{e_1, -e_1, \dots, e_k, -e_k\}, \qquad \varepsilon_c \sim N(0, 1).$$

    The hard task is a parity of the signs of $g$ (XOR for $k = 2$): any fewer than $k$ features
    tell nothing about it. The easy task asks along which half-axis $v_c$ the features $h$ point,
    which a linear classifier can say. The dial $\rho$ is the cosine between each feature of the
    easy task and the hard task's own: at 1 they are the same, at 0 the easy task is just as easy
    and needs other features.

    The easy label itself tells *nothing* about the hard one, for any $\rho$: mirroring $g_2$ and
    what is drawn for $\pm e_2$ leaves the class $\pm e_1$ as it is and changes the parity. What the
    hard task gains beside the easy one it gains by the features.

    How hard the hard task is depends on the number of features, on the inputs that hide them, and
    on the share of its labels that are flipped, which is its least possible error rate.

    Every row has all labels. A split takes labels away, from each task as many as one likes:
    `Holdout(train=800, labels={"hard": 100, "easy": 800})`.

    Arguments:
        seed: of everything drawn.
        rows: examples.
        inputs: width of $x$, at least $2k$.
        features: $k$, at least 2.
        overlap: the dial $\rho$, between 0 and 1.
        noise: $\sigma$ of the easy task's scores.
        flips: probability with which a label of the hard task is flipped, up to 0.5.
        shuffled: the easy task's labels are permuted among all rows: as many classes in the same
            proportions, and nothing to learn (the control of Caruana, 1997, section 3.1).

    Returns:
        A data set with the tasks `hard`, `easy` (both measured by their error rate) and `hints`.

    Example:
        >>> made = overheard_features(0, rows=5)
        >>> g = made.data.inputs @ made.features["hard"]
        >>> torch.equal(made.data.targets["hard"], (g.prod(1, keepdim=True) > 0).double())
        True
    """
    check_counts(rows=rows)
    check_counts(2, features=features)
    check_counts(2 * features, inputs=inputs)
    check_shares(overlap=overlap)
    check_noise(noise)
    if not 0 <= flips <= 0.5:
        raise UsageError(f"flips must lie between 0 and 0.5, not at {flips}.")
    turned = torch.linalg.qr(normal(generator(seed, "features"), inputs, 2 * features))[0]
    own, other = turned[:, :features], turned[:, features:]
    heard = overlap * own + sqrt(1 - overlap**2) * other
    axes = torch.eye(features, dtype=torch.float64)
    corners = torch.cat([axes, -axes], dim=1)

    x = normal(generator(seed, "inputs"), rows, inputs)
    hints = x @ own
    parity = hints.prod(1, keepdim=True) > 0
    flipped = torch.rand(rows, 1, generator=generator(seed, "flips")) < flips
    scores = x @ heard @ corners
    noisy = scores + noise * normal(generator(seed, "noise"), rows, 2 * features)
    easy = noisy.argmax(1)
    if shuffled:
        easy = easy[torch.randperm(rows, generator=generator(seed, "shuffle"))]

    tasks = [
        Task.binary("hard", metric="error rate"),
        Task.classification("easy", 2 * features, metric="error rate"),
        Task.regression("hints", features),
    ]
    targets = {"hard": (parity ^ flipped).double(), "easy": easy, "hints": hints}
    return SyntheticDataset(
        MultiTaskData.multi_label(tasks, x, targets),
        {"hard": parity.double(), "easy": scores.argmax(1), "hints": hints},
        {"hard": own, "easy": heard, "hints": own},
        {"easy": corners, "hints": axes},
    )


def feature_share(
    weights: Float[Tensor, "hidden inputs"], features: Float[Tensor, "inputs features"]
) -> float:
    r"""The share of a layer's weight that looks at the features: $\|W Q\|_F^2 / \|W\|_F^2$.

    $Q$ is an orthonormal basis of the features' directions. Of weights without any preference it is
    the number of features divided by that of inputs; of weights that look at nothing else it is 1.
    The features are moved to where the weights are.

    Example:
        >>> feature_share(torch.tensor([[3.0, 0.0, 4.0]]), torch.tensor([[1.0], [0.0], [0.0]]))
        0.36
    """
    weights = weights.detach()
    basis = torch.linalg.qr(features.to(weights))[0]
    return float((weights @ basis).square().sum() / weights.square().sum())


def readability(
    hidden: Float[Tensor, "examples hidden"],
    features: Float[Tensor, "examples features"],
    examples: int,
    sets: int = 1,
) -> float:
    r"""How well a linear probe, fitted to a few examples, reads the features: its R² on the rest.

    The probe is a ridge regression whose penalty is chosen by its leave-one-out error. With about
    as many examples as units it now and then chooses far too small a one: fit several probes, each
    to examples of its own, and the median leaves such accidents out. The examples
    must be *few*. A wide random layer keeps every linear function of its inputs, and a probe with
    many examples finds it: that says nothing about what the layer has learnt. A probe with few
    finds a feature only where the layer has brought it to the fore.

    Arguments:
        hidden: what a layer says about the examples.
        features: what is to be read from it.
        examples: how many fit a probe, from the first on; those behind all sets measure it.
        sets: how many probes are fitted.

    Returns:
        The coefficient of determination, averaged over the features, of the probes' median; at most
        1, and 0 for a probe that knows no better than the mean.
    """
    if examples < 2 or not 0 < sets * examples < len(hidden):
        raise UsageError(
            f"The probe is fitted to 2 or more of the {len(hidden)} examples, and measured on the "
            f"others: not to {examples}, {sets} times."
        )
    seen, said = hidden.detach().cpu().double().numpy(), features.cpu().double().numpy()
    scores = []
    for first in range(0, sets * examples, examples):
        own = slice(first, first + examples)
        probe = RidgeCV(alphas=_RIDGES).fit(seen[own], said[own])
        predicted = probe.predict(seen[sets * examples :]).reshape(-1, said.shape[1])
        scores.append(r2_score(said[sets * examples :], predicted))
    return float(np.median(scores))
