"""The settings of the test run itself are in force, in every worker."""

import os
import warnings
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch

from mtlbook.randomness import generator
from tests.project import ROOT


def test_signatures_of_the_package_are_checked() -> None:
    wrong: Any = 0.5
    with pytest.raises(jaxtyping.TypeCheckError):
        generator(wrong)


def test_a_warning_is_an_error() -> None:
    with pytest.raises(UserWarning, match="careless"):
        warnings.warn("careless", stacklevel=1)


def test_one_thread_computes() -> None:
    assert torch.get_num_threads() == 1


def test_what_notebooks_write_stays_out_of_the_checkout() -> None:
    assert ROOT not in Path(os.environ["MTLBOOK_OUTPUT"]).parents
