"""The lasso over inputs: its proximal map, and the layers that it is told to map."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from mtlbook.errors import UsageError
from mtlbook.sharing.input_lasso import InputLasso


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_proximal_map_minimises_its_objective():
    weight, amount = normal(3, 4), 0.9
    lasso = InputLasso(["weight"], 1.0)

    def objective(flat):
        new = flat.reshape(3, 4)
        lengths = np.sqrt((new**2).sum(0) + 1e-12)
        return 0.5 * ((new - weight.numpy()) ** 2).sum() + amount * lengths.sum()

    best = minimize(objective, weight.numpy().ravel(), method="BFGS", options={"gtol": 1e-9})
    found = lasso.shrink(weight, amount)
    assert objective(found.numpy().ravel()) <= best.fun + 1e-6
    np.testing.assert_allclose(found.numpy(), best.x.reshape(3, 4), atol=1e-3)


def test_the_lasso_switches_off_whole_inputs_and_leaves_other_layers():
    first = nn.Linear(3, 2)
    model = nn.Sequential(first, nn.Linear(2, 1)).double()
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[3.0, 0.06, 0.0], [4.0, 0.08, 0.0]]))
    lasso = InputLasso(["0.weight"], 2.0)
    assert float(lasso(model).detach()) == pytest.approx(2 * 5.1)
    before = {name: values.detach().clone() for name, values in model.named_parameters()}
    lasso.pull(model.named_parameters(), 0.5)
    expected = torch.tensor([[2.4, 0, 0], [3.2, 0, 0]], dtype=torch.float64)
    for name, values in model.named_parameters():
        wanted = expected if name == "0.weight" else before[name]
        torch.testing.assert_close(values.detach(), wanted)
    with pytest.raises(UsageError, match="below 0"):
        InputLasso(["0.weight"], -1.0)


@pytest.mark.parametrize("prefix", ["", "model.", "model.branches.a."])
def test_a_layer_is_found_by_whole_components_of_its_name(prefix):
    names = ["trunk.0.weight", "trunk.10.weight", "0.weight"]
    named = {f"{prefix}{name}": torch.ones(2, 3) for name in names}
    InputLasso(["trunk.0.weight"], 1.0).pull(named.items(), 0.5)
    changed = [name for name, values in named.items() if not (values == 1).all()]
    assert changed == [f"{prefix}trunk.0.weight"]


def test_a_layer_that_is_not_there_is_refused():
    model = nn.Sequential(nn.Linear(3, 2))
    for act in (
        lambda lasso: lasso(model),
        lambda lasso: lasso.pull(model.named_parameters(), 1.0),
    ):
        with pytest.raises(UsageError, match=r"named trunk.0.weight: there are 0.weight, 0.bias"):
            act(InputLasso(["trunk.0.weight"], 1.0))
