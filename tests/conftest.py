"""What the tests of the package need."""

import matplotlib as mpl
import pytest
import torch

# No window opens, whatever the machine has.
mpl.use("agg")


@pytest.fixture
def double():
    """New layers in float64, and drawn alike in every run."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
