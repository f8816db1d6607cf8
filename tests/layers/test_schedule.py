import pytest
import torch
from torch import Tensor, nn

from mtlbook.errors import UsageError
from mtlbook.layers.schedule import Scheduled, Stepped, advance


class Fading(Scheduled):
    """x (1 − p)."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * (1 - self.progress)


def test_progress_is_set_from_outside_and_at_every_depth():
    model = nn.Sequential(nn.Linear(2, 2), nn.ModuleDict({"a": Fading(), "b": Fading()}), Stepped())
    advance(model, 0.25)
    advance(model, 0.5)
    buffers = dict(model.named_buffers())
    assert {name: float(values) for name, values in buffers.items()} == {
        "1.a.progress": 0.5,
        "1.b.progress": 0.5,
        "2.step": 2,
    }


def test_forward_passes_do_not_advance_the_schedule():
    model = Fading()
    advance(model, 0.25)
    x = torch.ones(3)
    assert [model(x).tolist() for _ in range(3)] == [[0.75] * 3] * 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_progress_has_the_models_floating_type(dtype):
    """A buffer in float64 would keep the module from devices without it."""
    model = nn.Sequential(nn.Linear(2, 2), Fading()).to(dtype)
    advance(model, 0.5)
    assert model(torch.ones(1, 2, dtype=dtype)).dtype == dtype
    assert model.get_buffer("1.progress").dtype == dtype


def test_a_checkpoint_holds_progress_and_step():
    first, second = (nn.Sequential(Fading(), Stepped()) for _ in range(2))
    for progress in (0.0, 0.5):
        advance(first, progress)
    second.load_state_dict(first.state_dict())
    assert float(second.get_buffer("0.progress")) == 0.5
    assert int(second.get_buffer("1.step")) == 2


@pytest.mark.parametrize("progress", [-0.1, 1.5, float("nan")])
def test_an_impossible_progress_is_refused(progress):
    with pytest.raises(UsageError, match="part of the training that is done"):
        advance(Fading(), progress)
