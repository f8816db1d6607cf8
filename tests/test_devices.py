import pytest
import torch

from mtlbook.devices import resolve
from mtlbook.errors import UsageError


@pytest.mark.parametrize(("gpus", "device"), [(0, "cpu"), (1, "cuda")])
def test_auto_takes_a_gpu_where_there_is_one(monkeypatch, gpus, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    assert resolve("auto") == torch.device(device)
    assert resolve("cpu") == torch.device("cpu")


def test_unknown_devices_are_refused_with_the_possible_ones():
    for name in ("gpu", "cuda:", "cuda:x", "mps", ""):
        with pytest.raises(UsageError, match="choose auto, cpu, cuda or cuda:N"):
            resolve(name)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=r"PyTorch finds none.*'cpu'"):
        resolve("cuda:0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve("cuda:1") == torch.device("cuda:1")
    with pytest.raises(UsageError, match="GPUs are 0 to 1"):
        resolve("cuda:2")
