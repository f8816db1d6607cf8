r"""Section 7.2: digits of MNIST as the source domain, digits of USPS as a target without labels.

The protocol of the literature's small setting: 2,000 images of MNIST and 1,800 of USPS, drawn from
the training parts anew for each seed, all of 16 × 16 pixels (Long et al., 2013; Tzeng et al., 2017;
MNIST's are rescaled as a whole, with its margins). Two things are stricter than usual. The error is
that on USPS's *test* images (all 2,007), of which training has seen nothing, not even unlabelled.
And every choice is made on the source: of two learning rates the one with the least label loss on
500 further MNIST training images.

Both contestants are the same network, a small copy of the MNIST architecture of Ganin et al.
(2016, figure 4): two convolutions of 5 × 5 with 8 and 16 maps, each with a rectifier and pooling,
then 100 features; a linear label head; a domain head with 100 hidden units. 128 images a step, half
of them of each domain (on average); λ and the learning rate follow the paper's schedules. As in the
chapter, plain gradient descent takes the place of the paper's momentum, and the domain head learns
three times as fast. *Source only* sees 64 source images a step and no target. Unlike in the
chapter, all is computed in float32: other processors may give other third digits.

The proportions of the digits differ a little between the two: 16 % of USPS's are zeros, 10 % of
MNIST's.

The accuracy of the *own domain head* is that on test images of both domains (2,000 of MNIST); the
*proxy A-distance* is measured on the same images by a fresh classifier.
"""

from collections.abc import Sequence
from functools import partial

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from mtlbook.auxiliary.adversarial import (
    AdversarialSharing,
    adversarial_sgd,
    annealing,
)
from mtlbook.book.data import usps
from mtlbook.book.data.shifted_digits import DIGIT
from mtlbook.book.experiments.domains import proxy_a_distance
from mtlbook.data import mnist
from mtlbook.data.multi_task_data import Consecutive, MultiTaskData
from mtlbook.randomness import generator
from mtlbook.tasks import Task
from mtlbook.training.fit import Fit, fit
from mtlbook.training.sampling import Mixed
from mtlbook.training.selection import select
from mtlbook.training.settings import Settings

SECTION = "7.2"
DATA = ("mnist", "usps")
SEEDS = 16
SIDE = 16
LEARNING_RATES = (0.1, 0.3)
STEPS = 1000

SOURCE, TARGET, VALIDATION, SOURCE_TEST = 2000, 1800, 500, 2000
DOMAIN = Task.binary("domain")

Images = Float[Tensor, "_ _ _"]
SmallImages = Float[Tensor, "_ 16 16"]
Labels = Int[Tensor, " _"]


def run(seeds: Sequence[int], device: str, steps: int = STEPS) -> pd.DataFrame:
    """Errors, accuracies and distances: a row a seed, method and metric."""
    source, target = mnist.load(), usps.load()
    rows = []
    for seed in seeds:
        train, test = (
            drawn(images, labels, count, seed, part)
            for images, labels, count, part in (
                (source.train_images, source.train_labels, SOURCE + VALIDATION, "train"),
                (source.test_images, source.test_labels, SOURCE_TEST, "test"),
            )
        )
        unlabelled = drawn(target.train_images, target.train_labels, TARGET, seed, "target")
        data = domains(train, unlabelled[0], test, target.test_images)
        for method, adversarial in (("source only", False), ("gradient reversal", True)):
            trials = {
                f"μ₀ = {rate:g}": trained(data, seed, rate, adversarial, steps, device)
                for rate in LEARNING_RATES
            }
            chosen = trials[select(trials, each_task=True).choices[DIGIT.name].item()]
            for metric, value in measured(chosen, data, seed, target.test_labels).items():
                if adversarial or metric != "own domain head":
                    rows.append({"seed": seed, "method": method, "metric": metric, "value": value})
    return pd.DataFrame(rows)


def drawn(
    images: Images, labels: Labels, count: int, seed: int, part: str
) -> tuple[SmallImages, Labels]:
    """Some images, chosen at random without replacement, with their labels; of `SIDE` pixels."""
    order = torch.randperm(len(images), generator=generator(seed, "MNIST to USPS", part))[:count]
    return rescaled(images[order]), labels[order]


def rescaled(images: Images) -> SmallImages:
    """Images of `SIDE` × `SIDE` pixels, by bilinear interpolation with anti-aliasing."""
    if images.shape[-1] == SIDE:
        return images
    size = (SIDE, SIDE)
    return F.interpolate(images[:, None], size, mode="bilinear", antialias=True)[:, 0].clamp(0, 1)


def domains(
    train: tuple[SmallImages, Labels],
    unlabelled: SmallImages,
    test: tuple[SmallImages, Labels],
    target_test: SmallImages,
) -> MultiTaskData:
    """Training rows of both domains, validation rows of the source, test rows of both.

    Pixels run from −1 to 1. The target's labels are no part of it.
    """
    parts = [
        (train[0][:SOURCE], train[1][:SOURCE]),
        (unlabelled, None),
        (train[0][SOURCE:], train[1][SOURCE:]),
        test,
        (target_test, None),
    ]
    inputs = 2 * torch.cat([images for images, _ in parts]).flatten(1) - 1
    nothing = [torch.zeros(len(images), dtype=torch.long) for images, _ in parts]
    digits = [
        none if labels is None else labels for (_, labels), none in zip(parts, nothing, strict=True)
    ]
    of_target = torch.cat([torch.full((len(images),), labels is None) for images, labels in parts])
    return MultiTaskData.partial(
        [DIGIT, DOMAIN],
        inputs,
        {DIGIT.name: torch.cat(digits), DOMAIN.name: of_target.to(inputs.dtype)},
        {DIGIT.name: ~of_target, DOMAIN.name: torch.ones_like(of_target)},
    )


def network(_data: MultiTaskData, _seed: int) -> AdversarialSharing:
    """The convolutional network of the module's docstring."""
    stages = [
        nn.Unflatten(1, (1, SIDE, SIDE)),
        *(nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(16 * (SIDE // 4) ** 2, 100), nn.ReLU()),
    ]
    heads = {DIGIT.name: nn.Linear(100, DIGIT.outputs)}
    domain_head = nn.Sequential(nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 1))
    return AdversarialSharing(lambda: stages, heads, adversaries={DOMAIN.name: domain_head})


def trained(
    data: MultiTaskData,
    seed: int,
    learning_rate: float,
    adversarial: bool,
    steps: int,
    device: str,
) -> Fit:
    """One trial of one seed."""
    test = len(data.inputs) - SOURCE - TARGET - VALIDATION
    settings = Settings(
        tasks=[DIGIT.name, DOMAIN.name] if adversarial else [DIGIT.name],
        split=Consecutive(train=SOURCE + TARGET, validation=VALIDATION, test=test),
        steps=steps,
        sampler=Mixed(128 if adversarial else 64),
        optimiser=partial(adversarial_sgd, learning_rate=learning_rate),
        schedule=annealing,
        stopping=None,
        validate_every=steps,
        device=device,
        dtype=torch.float32,
    )
    return fit(network, data, seeds=[seed], settings=settings)


def measured(
    chosen: Fit, data: MultiTaskData, seed: int, target_labels: Labels
) -> dict[str, float]:
    """Errors on the test images of both domains, and how far apart these lie."""
    rows = torch.from_numpy(chosen.test[0])
    of_target = data.targets[DOMAIN.name][rows, 0] > 0.5
    guessed = torch.from_numpy(chosen.predictions[DIGIT.name][0]).argmax(1)
    model = chosen.model(seed).requires_grad_(False)
    features = model.get_submodule("trunk")(data.inputs[rows])
    head = model.get_submodule(f"adversaries.{DOMAIN.name}")
    domains_guessed = head(features)[:, 0] > 0
    source_labels = data.targets[DIGIT.name][rows][~of_target]
    return {
        "source error": float((guessed[~of_target] != source_labels).double().mean()),
        "target error": float((guessed[of_target] != target_labels).double().mean()),
        "own domain head": float((domains_guessed == of_target).double().mean()),
        "proxy A-distance": proxy_a_distance(features[~of_target], features[of_target]),
    }
