"""A linear trunk's joint optimum: stationary, least of all, and no help at full width."""

from functools import reduce

import pytest
import torch

from mtlbook.auxiliary.linear_trunk import identity_gap, linear_trunk_optimum
from mtlbook.data import MultiTaskData, embedded
from mtlbook.errors import UsageError
from mtlbook.randomness import generator, standard_normal
from mtlbook.tasks import Task

ROWS, INPUTS = 60, 5
X = standard_normal(generator(2, "inputs"), ROWS, INPUTS)
Y = {
    "main": (X @ standard_normal(generator(2, "main"), INPUTS, 1)).tanh() + 1,
    "extra": X[:, :2] * X[:, 1:3] + X @ standard_normal(generator(2, "extra"), INPUTS, 2),
}
WEIGHTS = {"main": 1.0, "extra": 0.3}


def trained(width):
    """The least joint loss of a linear network, and its predictions, by L-BFGS from ten starts."""
    best = (float("inf"), [])
    for start in range(10):
        source = generator(start, "weights")
        draws = [(INPUTS, width), *((width, y.shape[1]) for y in Y.values())]
        parts = [standard_normal(source, *shape).requires_grad_() for shape in draws]
        offsets = [
            torch.zeros(y.shape[1], dtype=torch.float64, requires_grad=True) for y in Y.values()
        ]
        descent = torch.optim.LBFGS(
            [*parts, *offsets],
            max_iter=2000,
            tolerance_grad=1e-12,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )

        def predictions(parts=parts, offsets=offsets):
            pairs = zip(parts[1:], offsets, strict=True)
            return [X @ parts[0] @ head + offset for head, offset in pairs]

        def loss(descent=descent, predictions=predictions):
            descent.zero_grad()
            found = zip(WEIGHTS.values(), predictions(), Y.values(), strict=True)
            value = reduce(torch.add, [w * (p - y).square().sum() for w, p, y in found])
            value.backward()
            return value

        descent.step(loss)
        value = float(loss().detach())
        if value < best[0]:
            best = (value, [p.detach() for p in predictions()])
    return best


@pytest.mark.parametrize("width", [1, 2, 3])
def test_the_closed_form_is_what_a_linear_network_trains_to(width):
    optimum = linear_trunk_optimum(X, Y, WEIGHTS, width)
    value = sum(WEIGHTS[task] * float((optimum[task] - y).square().sum()) for task, y in Y.items())
    least, predictions = trained(width)
    assert value == pytest.approx(least, rel=1e-9)
    for own, task in zip(predictions, Y, strict=True):
        torch.testing.assert_close(own, optimum[task], rtol=0, atol=1e-5)


def test_at_full_width_every_task_has_its_own_least_squares():
    design = torch.cat([X, torch.ones(ROWS, 1, dtype=torch.float64)], 1)
    optimum = linear_trunk_optimum(X, Y, WEIGHTS, 3)
    for task, y in Y.items():
        own = design @ torch.linalg.lstsq(design, y).solution
        torch.testing.assert_close(optimum[task], own, rtol=0, atol=1e-12)


def test_the_gap_is_zero_at_full_width_and_not_in_a_bottleneck():
    tasks = [Task.regression("main"), Task.regression("extra", 2)]
    data = MultiTaskData.multi_label(tasks, X, Y)
    assert identity_gap(data, "main") < 1e-12
    assert identity_gap(data, "main", width=1) > 0.01


def test_classes_and_inputs_without_full_rank_have_the_identity_too():
    digits = embedded.digits("digit", "parity")
    assert identity_gap(digits, "parity") < 1e-9
    assert identity_gap(digits, "parity", width=3) > 0.01


def test_what_the_identity_is_not_about_is_refused():
    tasks = [Task.regression("main"), Task.regression("extra", 2)]
    data = MultiTaskData.multi_label(tasks, X, Y)
    with pytest.raises(UsageError, match="no task 'other'"):
        identity_gap(data, "other")
    some = {"main": torch.arange(ROWS) < 30, "extra": torch.ones(ROWS, dtype=torch.bool)}
    with pytest.raises(UsageError, match="same rows"):
        identity_gap(MultiTaskData.partial(tasks, X, Y, some), "main")
    with pytest.raises(UsageError, match="one flat tensor"):
        identity_gap(MultiTaskData.multi_label(tasks, {"x": X}, Y), "main")
    with pytest.raises(UsageError, match="width of at least 1"):
        linear_trunk_optimum(X, Y, {"main": 1.0, "extra": 0.0}, 2)
