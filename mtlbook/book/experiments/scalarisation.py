"""Section 8.4: where rules end on a front that is known, and tuned weights against tuned rules."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtlbook.balancing.mgda import MGDA
from mtlbook.balancing.nash import NashMTL
from mtlbook.balancing.upgrad import UPGrad
from mtlbook.book.experiments.networks import dense, hard_sharing
from mtlbook.combiner import Combiner, Evidence
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.randomness import generator, standard_normal
from mtlbook.training.fit import Data, fit_trials
from mtlbook.training.sampling import Mixed
from mtlbook.training.selection import Selected, select
from mtlbook.training.settings import Optimiser, Settings, Trial
from mtlbook.weighting import linear_front
from mtlbook.weighting.chebyshev import SmoothChebyshev
from mtlbook.weighting.linear_scalarisation import LinearScalarisation

# An end is out of reach where every point that fixed weights reach differs by more in some task's
# unexplained share, and dominated where some point is better by more on every task.
OUT_OF_REACH, DOMINATED = 0.1, 0.02


def ends(
    fits: Float[Tensor, "runs tasks tasks"],
    starts: Float[Tensor, "runs tasks"],
    combiner: Combiner,
    *,
    steps: int = 200,
    rate: float = 0.2,
) -> Float[Tensor, "runs tasks"]:
    """Where descent on the sphere of directions ends, from each start.

    The gradient of u_t at z is -2 c_t (ŷ_t - c_t z), with c_t = ŷ_tᵀ z. A step goes against the sum
    of the gradients with the combiner's weights, scaled to the sum 1 so that all rules take steps
    of like length; the rate falls linearly to 0.

    Arguments:
        fits: as `linear_front.unit_fits` gives them, one of each run.
        starts: directions.
        combiner: the rule, for as many tasks.
        steps: of the descent.
        rate: of the first step.
    """
    place = starts / starts.norm(dim=-1, keepdim=True)
    labelled = torch.ones(starts.shape, dtype=torch.bool)
    for step in range(steps):
        along = torch.einsum("rtk,rk->rt", fits, place)
        gradients = -2 * along[..., None] * (fits - along[..., None] * place[:, None])
        evidence = Evidence(
            1 - along.square(), labelled, step / steps, gradients @ gradients.transpose(1, 2)
        )
        weights = combiner.weigh(evidence)
        weights = weights / weights.sum(-1, keepdim=True)
        moved = place - rate * (1 - step / steps) * torch.einsum("rt,rtk->rk", weights, gradients)
        place = moved / moved.norm(dim=-1, keepdim=True)
    return place


def kinds(
    fits: Float[Tensor, "tasks tasks"], directions: Float[Tensor, "ends tasks"]
) -> dict[str, float]:
    """The shares of ends that fixed weights reach, that they do not, and that are dominated, %."""
    found = linear_front.unexplained(directions, fits)
    weights = linear_front.weights_of_three()
    reached = linear_front.unexplained(linear_front.reached_by_weights(fits, weights), fits)
    everywhere = linear_front.unexplained(linear_front.sphere(), fits)
    distance = (found[:, None] - reached).abs().amax(-1).amin(1)
    better = (found[:, None] - everywhere).amin(-1).amax(1)
    dominated = better > DOMINATED
    beyond = (distance > OUT_OF_REACH) & ~dominated
    shares = {"out of reach": beyond, "dominated": dominated, "reached": ~dominated & ~beyond}
    return {kind: 100 * float(marks.double().mean()) for kind, marks in shares.items()}


def ends_by_rule(
    fits: Mapping[int, Float[Tensor, "tasks tasks"]],
    rules: Mapping[str, Combiner],
    *,
    starts: int,
) -> dict[str, dict[str, Float[np.ndarray, " seeds"]]]:
    """For each rule and kind of end its share among the starts of each seed, %.

    Arguments:
        fits: by seed.
        rules: combiners by name; all start from the same directions.
        starts: of each seed, uniform on the sphere.
    """
    tasks = next(iter(fits.values())).shape[0]
    drawn = torch.cat([standard_normal(generator(seed, "starts"), starts, tasks) for seed in fits])
    every = torch.stack(list(fits.values())).repeat_interleave(starts, 0)
    shares: dict[str, dict[str, np.ndarray]] = {}
    for name, rule in rules.items():
        places = ends(every, drawn, rule).split(starts)
        rows = [kinds(own, place) for own, place in zip(fits.values(), places, strict=True)]
        shares[name] = {kind: np.array([row[kind] for row in rows]) for kind in rows[0]}
    return shares


def end_rules(tasks: int = 3) -> dict[str, Combiner]:
    """Fixed even weights, two rules that combine gradients, and smooth Chebyshev."""
    names = [str(number) for number in range(tasks)]
    return {
        "fixed weights": LinearScalarisation(dict.fromkeys(names, 1.0)),
        "MGDA": MGDA(names),
        "UPGrad": UPGrad(names),
        "smooth Chebyshev": SmoothChebyshev(names, smoothness=0.02),
    }


def drawn_fits(
    inputs: Float[Tensor, "rows inputs"],
    targets: Float[Tensor, "rows columns"],
    seeds: Sequence[int],
) -> dict[int, Float[Tensor, "3 3"]]:
    """For each seed the fits of three of the targets on half of the rows, both drawn."""
    found = {}
    for seed in seeds:
        rows = torch.randperm(len(inputs), generator=generator(seed, "rows"))[: len(inputs) // 2]
        three = torch.randperm(targets.shape[1], generator=generator(seed, "tasks"))[:3]
        found[seed] = linear_front.unit_fits(inputs[rows], targets[rows][:, three])
    return found


RULES = {"UPGrad": UPGrad, "MGDA": MGDA, "Nash-MTL": NashMTL}
DECAYS = (0.0, 1e-3, 1e-2)
WIDTH = 24


def network(data: MultiTaskData, seed: int) -> nn.Module:  # noqa: ARG001
    """One hidden layer that all tasks share; images are flattened."""
    inputs = data.inputs[0].numel()

    def stages() -> list[nn.Module]:
        return [nn.Sequential(nn.Flatten(), *dense(inputs, WIDTH)())]

    return hard_sharing(stages, data.tasks, WIDTH)


def sgd(rate: float, penalty: float = 0.0) -> Optimiser:
    """Plain gradient descent; its weight decay is the gradient of an L2 penalty."""
    return partial(torch.optim.SGD, lr=rate, weight_decay=penalty)


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Tuned fixed weights against tuned rules on one data set: twelve trials each.

    Attributes:
        seeds: a replicate each.
        device: as for `fit`.
        data: one data set, or a function from a seed to its data.
        tasks: names, in the data's order.
        weights: three vectors of fixed weights by name.
        optimiser: from a rate and a penalty to an optimiser.
        rates: four.
        split: of the rows.
        steps: of each training.
    """

    seeds: Sequence[int]
    device: str
    data: Data
    tasks: Sequence[str]
    weights: Mapping[str, Sequence[float]]
    optimiser: Callable[[float, float], Optimiser]
    rates: Sequence[float]
    split: Holdout
    steps: int = 150

    def rules(self) -> Selected:
        """Three rules that combine gradients, at each rate."""
        return self._tried({name: (rule(self.tasks), 0.0) for name, rule in RULES.items()})

    def fixed(self) -> Selected:
        """Three vectors of fixed weights, at each rate."""
        named = {
            name: dict(zip(self.tasks, map(float, own), strict=True))
            for name, own in self.weights.items()
        }
        return self._tried({name: (LinearScalarisation(own), 0.0) for name, own in named.items()})

    def unitary(self) -> Selected:
        """The plain sum with three strengths of weight decay, at each rate."""
        return self._tried({f"decay {decay:g}": (None, decay) for decay in DECAYS})

    def _tried(self, kinds: Mapping[str, tuple[Combiner | None, float]]) -> Selected:
        """For each seed the trial with the least mean relative validation loss."""
        trials = {
            f"{name}, rate {rate:g}": Trial(self.optimiser(rate, decay), combiner)
            for name, (combiner, decay) in kinds.items()
            for rate in self.rates
        }
        settings = Settings(
            split=self.split,
            steps=self.steps,
            sampler=Mixed(64),
            stopping="relative",
            validate_every=self.steps // 10,
            evaluate_on=["validation", "test"],
            device=self.device,
            progress_label="section 8.4",
        )
        fits = fit_trials(network, self.data, seeds=self.seeds, trials=trials, settings=settings)
        return select(fits)
