import pytest
import torch

from mtlbook.randomness import generator
from mtlbook.weighting.adam import Adam


@pytest.mark.usefixtures("double")
def test_it_is_pytorch_s():
    source = generator(0, "gradients")
    values = torch.zeros(3)
    theirs = torch.nn.Parameter(values.clone())
    optimiser = torch.optim.Adam([theirs], lr=0.03, betas=(0.8, 0.99), eps=1e-6)
    ours = Adam(3, 0.03, betas=(0.8, 0.99), epsilon=1e-6)
    for _ in range(20):
        theirs.grad = torch.randn(3, generator=source, dtype=torch.float64)
        values = values + ours(theirs.grad, torch.ones(3, dtype=torch.bool))
        optimiser.step()
        torch.testing.assert_close(values, theirs.detach(), rtol=1e-12, atol=1e-14)


@pytest.mark.usefixtures("double")
def test_a_value_that_sits_out_is_not_aged():
    alone, both = Adam(1, 0.1), Adam(2, 0.1)
    for step in range(6):
        gradient = torch.tensor([0.5 * step - 1.0])
        expected = alone(gradient, torch.tensor([True]))
        found = both(torch.cat([gradient, torch.tensor([9.0])]), torch.tensor([True, False]))
        assert found.tolist() == [float(expected), 0.0]
        both(torch.tensor([torch.nan, torch.nan]), torch.tensor([False, False]))
