"""Section 7's contestants: λ = 0 leaves no trace, trials are equal, the main task chooses."""

import pytest

from mtlbook.book.experiments import adam, adamw_trials, mlp
from mtlbook.book.experiments.auxiliary_tasks import (
    alone,
    beside,
    equal_trials,
    strengths,
    zero_weight_gap,
)
from mtlbook.book.page import Page
from mtlbook.data import Holdout, embedded
from mtlbook.errors import UsageError
from mtlbook.training.sampling import Balanced, Mixed

COMMON = {"split": Holdout(60, 60, 60), "steps": 8, "width": 8}


@pytest.fixture
def page():
    return Page("7.1", {"seeds": 2, "first_seed": 7000, "device": "cpu"})


@pytest.mark.parametrize("sampler", [Mixed(16), Balanced(16)])
def test_a_weight_of_zero_is_single_task_training_to_the_bit(page, sampler):
    digits = embedded.digits("parity", "digit")
    settings = COMMON | {"sampler": sampler, "optimiser": adam(0.01)}
    assert zero_weight_gap(page, mlp, digits, "parity", ["digit"], **settings) == 0


def test_trials_of_the_weight_count(page):
    digits = embedded.digits("parity", "digit")
    grid = adamw_trials([0.01, 0.1], [0.1])
    single = alone(page, mlp, digits, "parity", trials=grid, **COMMON)
    joint = beside(page, mlp, digits, "parity", ["digit"], values=[0.1, 1.0], trials=grid, **COMMON)
    assert [task.name for task in joint.fits["λ 1, rate 0.01, decay 0.1"].tasks] == [
        "parity",
        "digit",
    ]
    with pytest.raises(UsageError, match=r"had \[2, 4\] trials"):
        equal_trials(single, joint)
    assert equal_trials(joint, joint) == 4
    for row, seed in enumerate(page.seeds):
        losses = {n: f.score("parity", "loss", "validation")[row] for n, f in joint.fits.items()}
        assert joint.choices["parity"].loc[seed] == min(losses, key=losses.__getitem__)


def test_a_strength_is_a_weight_of_each_auxiliary():
    (trial,) = strengths("main", ["a", "b"], [0.25]).values()
    assert trial["combiner"].weights == {"main": 1.0, "a": 0.25, "b": 0.25}
