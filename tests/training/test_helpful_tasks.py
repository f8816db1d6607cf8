"""What one's own tasks show before they are trained together, and the gains of pairs."""

from functools import partial

import numpy as np
import pytest
import torch

from mtlbook.auxiliary.helpful_tasks import predict_gains
from mtlbook.book.data.worlds.factorial_tasks import Levels, factorial_tasks
from mtlbook.book.experiments.networks import mlp
from mtlbook.data.multi_task_data import Holdout
from mtlbook.errors import UsageError
from mtlbook.training.fit import fit
from mtlbook.training.helpful_tasks import early_gradients, pair_gains, task_evidence
from mtlbook.training.sampling import Balanced
from mtlbook.training.settings import Settings
from mtlbook.weighting.linear_scalarisation import LinearScalarisation

TASKS = {f"t{n}": Levels(n < 2, n % 2 == 0, False, False) for n in range(4)}
SETTINGS = Settings(
    split=Holdout(40, 20, 40), steps=20, sampler=Balanced(16), learning_rate=0.02, device="cpu"
)
BUILD = partial(mlp, width=4)


@pytest.fixture(scope="module")
def data():
    return factorial_tasks(0, rows=100, tasks=TASKS).data


def test_evidence_and_gains_make_a_forecast(data):
    evidence = task_evidence(BUILD, data, seeds=[0, 1], settings=SETTINGS)
    gains = pair_gains(BUILD, data, seeds=[0, 1], settings=SETTINGS)
    assert evidence.shape == (12, 22)
    assert list(evidence.index) == list(gains.index)
    forecast = predict_gains(evidence, gains)
    assert forecast.probability.between(0, 1).all()


def test_a_gain_is_the_reduction_against_the_same_training_alone(data):
    (gain,) = pair_gains(BUILD, data, seeds=[3], pairs=[("t2", "t0")], settings=SETTINGS)

    def loss(*tasks):
        own = Settings(**{**vars(SETTINGS), "tasks": tasks, "stopping": "each"})
        return fit(BUILD, data, seeds=[3], settings=own).score("t2", "loss")[0]

    assert gain == pytest.approx(100 * (1 - loss("t0", "t2") / loss("t2")), abs=1e-12)


def test_cosines_are_those_of_the_gradients_at_the_first_step(data):
    own = Settings(**{**vars(SETTINGS), "sampler": Balanced(None)})
    found = early_gradients(BUILD, data, seeds=[0], steps=1, settings=own)
    splits = own.split.draw(data, 0)
    assert found["cosine"].shape == (1, 4, 4)
    # The network's first weights: those from which a step of rate 0 goes nowhere.
    still = Settings(
        **{
            **vars(own),
            "steps": 1,
            "stopping": None,
            "learning_rate": None,
            "optimiser": partial(torch.optim.SGD, lr=0.0),
        }
    )
    model = fit(BUILD, data, seeds=[0], settings=still).model(0)
    rows, flat, losses = splits.train, [], []
    for task in data.tasks:
        value = task.loss(model(data.inputs[rows])[task.name], data.targets[task.name][rows]).mean()
        shared = list(model.get_submodule("trunk").parameters())
        grads = torch.autograd.grad(value, shared)
        flat.append(torch.cat([grad.flatten() for grad in grads]))
        losses.append(value.item())
    gradients = torch.stack(flat)
    gramian = (gradients @ gradients.T).numpy()
    lengths = np.sqrt(np.diag(gramian))
    assert np.allclose(found["cosine"][0], gramian / np.outer(lengths, lengths), atol=1e-10)
    assert np.allclose(found["affinity"][0], gramian / np.array(losses)[:, None], atol=1e-10)


@pytest.mark.parametrize("pair", [("t0", "t0"), ("t0", "nobody")])
def test_a_pair_that_is_none_is_refused(data, pair):
    with pytest.raises(UsageError, match="no pair of two tasks"):
        pair_gains(BUILD, data, seeds=[0], pairs=[pair], settings=SETTINGS)


def test_a_combiner_is_refused(data):
    own = Settings(combiner=LinearScalarisation(dict.fromkeys(TASKS, 1.0)))
    with pytest.raises(UsageError, match="plain trainings"):
        task_evidence(BUILD, data, seeds=[0], settings=own)
