"""Hints as properties in section 4.3: what their examples ask of a network, and what it costs."""

import pytest
import torch

from mtlbook.book.experiments import property_hints
from mtlbook.book.page import Page
from mtlbook.book.parameters import OneOf


class Sum(torch.nn.Module):
    """The sum of the inputs, or its square: increasing and odd, or neither."""

    def __init__(self, power):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.power = power

    def forward(self, inputs):
        return {"value": inputs.sum(1, keepdim=True) ** self.power}


@pytest.mark.parametrize("hint", ["oddness", "monotonicity"])
def test_a_hint_asks_nothing_of_a_network_that_has_the_property(hint):
    odd_and_increasing, even = Sum(1).double(), Sum(2).double()
    assert property_hints.penalty(hint, 10.0, 0)(odd_and_increasing) == pytest.approx(0.0)
    asked = [property_hints.penalty(hint, strength, 0)(even) for strength in (10.0, 20.0)]
    assert asked[0] > 0
    assert asked[1] == pytest.approx(2 * asked[0])


def test_errors_and_reductions_have_a_value_for_each_seed(monkeypatch, tmp_path):
    monkeypatch.setenv("MTLBOOK_OUTPUT", str(tmp_path))
    monkeypatch.setattr(property_hints, "TEST", 50)
    notebook = {"seeds": 2, "first_seed": 0, "device": "cpu", "dataset": "constructed"}
    page = Page("4.3", notebook, dataset=OneOf("constructed"))
    # The variance of the target is 1.25, and 0.25 of it is noise.
    for hint in (None, "oddness"):
        error = property_hints.tuned_error(page, hint)
        assert error.shape == (2,)
        assert (error > 0.1).all()
        assert (error < 1.25).all()
    reductions = property_hints.reductions_by_oddness(page, even_part=1.0, examples=20)
    assert reductions.shape == (2,)
