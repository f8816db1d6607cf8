"""Pooled data sets: the linear cases against their closed forms and against scikit-learn."""

import pytest
import torch
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression, Ridge
from torch import nn
from torch.nn import functional as F

from mtlbook.data import MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.sharing.task_codes import Interactions, Pooled, with_task_codes
from mtlbook.tasks import Task

SIZES = (10, 25, 40)
TASKS = [Task.regression(f"task_{number}") for number in range(len(SIZES))]
NAMES = [task.name for task in TASKS]
OWNER = torch.repeat_interleave(torch.tensor(SIZES))


def linear_world():
    """Three data sets with different means, offsets and slopes; and all targets in one column."""
    draws = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=draws, dtype=torch.float64)

    sets, column = {}, []
    for number, (task, size) in enumerate(zip(TASKS, SIZES, strict=True)):
        x = normal(size, 2) + number
        y = x @ normal(2, 1) + 3 * number + normal(size, 1)
        sets[task] = (x, y)
        column.append(y)
    return MultiTaskData.several(sets), torch.cat(column)


def least_squares(model, inputs, y):
    """The predictions of a model after full least squares over all rows."""
    model.double()
    optimiser = torch.optim.LBFGS(
        model.parameters(), max_iter=2000, tolerance_grad=1e-10, tolerance_change=0
    )

    def closure():
        optimiser.zero_grad()
        # Every task's name carries the same output.
        loss = (model(inputs)[TASKS[0].name] - y).square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return model(inputs)[TASKS[0].name].detach()


def test_pooled_without_codes_is_one_regression():
    data, y = linear_world()
    model = Pooled(list, nn.Linear(2, 1), NAMES)
    expected = LinearRegression().fit(data.inputs, y).predict(data.inputs)
    torch.testing.assert_close(
        least_squares(model, data.inputs, y), torch.from_numpy(expected), atol=1e-6, rtol=0
    )


def test_a_code_is_an_intercept_for_each_task():
    """The closed form: one slope from the deviations from each task's means, and the intercepts."""
    data, y = linear_world()
    means = [(data.inputs[t == OWNER].mean(0), y[t == OWNER].mean(0)) for t in range(len(TASKS))]
    x_mean = torch.stack([mean for mean, _ in means])[OWNER]
    y_mean = torch.stack([mean for _, mean in means])[OWNER]
    x, own = data.inputs - x_mean, y - y_mean
    slope = torch.linalg.solve(x.T @ x, x.T @ own)
    expected = data.inputs @ slope + (y_mean - x_mean @ slope)

    coded = with_task_codes(data)
    found = least_squares(Pooled(list, nn.Linear(2 + 3, 1), NAMES), coded.inputs, y)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_interactions_are_separate_regressions():
    data, y = linear_world()
    stage = Interactions(3)
    model = Pooled(lambda: [stage], nn.Linear(stage.width(2), 1), NAMES)
    found = least_squares(model, with_task_codes(data).inputs, y)
    for number in range(len(TASKS)):
        own = number == OWNER
        regression = LinearRegression().fit(data.inputs[own], y[own])
        expected = torch.from_numpy(regression.predict(data.inputs[own]))
        torch.testing.assert_close(found[own], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("penalty", [0.1, 10.0])
def test_interactions_with_a_ridge_are_mean_regularised_multi_task_learning(penalty):
    """Its kernel is (1 + δ_st) xᵀx': Evgeniou and Pontil's, for one weight of mean and own."""
    data, y = linear_world()
    features = Interactions(3)(with_task_codes(data).inputs)
    without_codes = torch.cat([features[:, :2], features[:, 5:]], dim=1)
    primal = Ridge(alpha=penalty, fit_intercept=False).fit(without_codes, y)
    same_task = (OWNER[:, None] == OWNER[None, :]).double()
    kernel = (1 + same_task) * (data.inputs @ data.inputs.T)
    dual = KernelRidge(alpha=penalty, kernel="precomputed").fit(kernel, y)
    torch.testing.assert_close(
        torch.from_numpy(primal.predict(without_codes)).view(-1, 1),
        torch.from_numpy(dual.predict(kernel)),
    )


def test_interactions_are_the_product_with_the_code():
    x = torch.arange(6.0).view(3, 2)
    owner = torch.tensor([0, 2, 1])
    code = torch.eye(3)[owner]
    found = Interactions(3)(torch.cat([x, code], dim=1))
    assert found.shape == (3, Interactions(3).width(2))
    assert torch.equal(found[:, :5], torch.cat([x, code], dim=1))
    # The Kronecker product of each row's code and input.
    for row in range(3):
        assert torch.equal(found[row, 5:], torch.kron(code[row], x[row]))


def test_codes_are_those_of_several_data_sets():
    data, y = linear_world()
    sets = {
        task: (data.inputs[data.labelled[task.name]], y[data.labelled[task.name]]) for task in TASKS
    }
    assert torch.equal(with_task_codes(data).inputs, MultiTaskData.several(sets, codes=True).inputs)


def test_rows_with_several_labels_have_no_code():
    x = torch.ones(4, 2)
    data = MultiTaskData.multi_label(TASKS, x, {task.name: torch.ones(4) for task in TASKS})
    with pytest.raises(UsageError, match="labels of several tasks"):
        with_task_codes(data)


@pytest.mark.parametrize("names", ["price", [], ["price", "price"]])
def test_names_that_cannot_be_pooled_are_refused(names):
    with pytest.raises(UsageError, match="each once, at least one"):
        Pooled(list, nn.Linear(2, 1), names)


def test_every_name_has_the_one_prediction():
    model = Pooled(lambda: [nn.Linear(2, 4), nn.Tanh()], nn.Linear(4, 3), ["a", "b"])
    first, second = model(torch.ones(5, 2)).values()
    assert first is second
    assert first.shape == (5, 3)
    assert sum(p.numel() for p in model.parameters()) == 2 * 4 + 4 + 4 * 3 + 3


def test_a_pooled_network_learns_offsets_by_its_codes_only():
    """Three constant data sets on the same inputs: only a code can tell them apart."""
    draws = torch.Generator().manual_seed(1)
    x = torch.randn(40, 2, generator=draws, dtype=torch.float64)
    data = MultiTaskData.several(
        {task: (x, torch.full((40, 1), float(number))) for number, task in enumerate(TASKS)}
    )
    y = torch.arange(3.0, dtype=torch.float64).repeat_interleave(40).unsqueeze(1)
    error = {}
    for name, own in {"no code": data, "code": with_task_codes(data)}.items():
        width = own.inputs.shape[1]
        torch.manual_seed(0)
        model = Pooled(lambda: [nn.Linear(width, 8), nn.Tanh()], nn.Linear(8, 1), NAMES).double()  # noqa: B023
        optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(300):
            optimiser.zero_grad()
            F.mse_loss(model(own.inputs)["task_0"], y).backward()
            optimiser.step()
        error[name] = float(F.mse_loss(model(own.inputs)["task_0"], y).detach())
    assert error["code"] < 0.05
    # The best constant for 0, 1 and 2 is 1: a mean squared error of 2/3.
    assert error["no code"] == pytest.approx(2 / 3, abs=0.01)
