"""Where a computation runs: `auto`, `cpu`, `cuda` or `cuda:N`, checked before it starts."""

import re

import torch

from mtlbook.errors import UsageError


def resolve(device: str | torch.device) -> torch.device:
    """The device that a name stands for; `auto` is a GPU where there is one.

    Raises:
        UsageError: for an unknown name, or a GPU that this machine does not have.
    """
    name = str(device)
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise UsageError(f"There is no device {name!r}: choose auto, cpu, cuda or cuda:N.")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            raise UsageError(
                f"The device {name!r} needs a GPU and PyTorch finds none on this machine: "
                "use the device 'cpu' (or 'auto'), or install a CUDA build of PyTorch."
            )
        if (torch.device(name).index or 0) >= count:
            raise UsageError(f"There is no {name!r}: this machine's GPUs are 0 to {count - 1}.")
    return torch.device(name)
