"""The worlds of section 7.7: what their dials do, and their least losses."""

import pytest
import torch

from mtlbook.book.data.worlds.severity import SLOPE, course, horizons, least_log_loss, severity
from mtlbook.errors import UsageError

MANY = 20_000


@pytest.mark.parametrize("world", [severity, course, horizons])
def test_few_rows_are_the_first_of_more(world):
    few, more = world(3, rows=7).data, world(3, rows=20).data
    assert torch.equal(few.inputs, more.inputs[:7])
    assert all(torch.allclose(few.targets[name], more.targets[name][:7]) for name in few.targets)
    assert not torch.equal(few.inputs, world(4, rows=7).data.inputs)


def test_laboratory_values_see_the_severity_or_another():
    for common, seen in ((1.0, 1.0), (0.25, 0.5), (0.0, 0.0)):
        made = severity(0, rows=MANY, common=common, noise=0.5)
        labs = made.data.targets["labs"]
        h = made.data.inputs @ made.heads["outcome"]
        agreement = torch.corrcoef(torch.stack([h, *labs.T]))[0, 1:]
        signs = torch.tensor([1.0, -1.0] * 3, dtype=h.dtype)
        assert torch.allclose(agreement, signs * seen / 1.25**0.5, atol=0.03)
        assert torch.allclose(labs.var(0), torch.ones(6, dtype=h.dtype), atol=0.05)


def test_the_outcome_depends_on_severity_alone():
    made = severity(0, rows=MANY, common=0.0)
    h = made.data.inputs @ made.heads["outcome"]
    y = made.data.targets["outcome"][:, 0]
    loss = torch.nn.functional.binary_cross_entropy_with_logits(SLOPE * h, y)
    assert abs(float(loss) - made.least_loss["outcome"]) < 0.01
    assert made.least_loss["outcome"] == least_log_loss()


@pytest.mark.parametrize("direct", [0.0, 0.5, 1.0])
def test_the_least_loss_of_a_course_is_reached_by_its_coefficients(direct):
    made = course(1, rows=MANY, direct=direct)
    left = made.data.targets["y"][:, 0] - made.data.inputs @ made.heads["y"]
    assert float(left.square().mean()) == pytest.approx(made.least_loss["y"], rel=0.03)
    for time in ("time_2", "time_3"):
        variance = made.data.targets[time].var(0)
        assert torch.allclose(variance, torch.ones_like(variance), atol=0.05)


def test_past_the_chain_measurements_say_nothing_more():
    for direct, knows in ((0.0, True), (1.0, False)):
        made = course(1, rows=MANY, direct=direct)
        left = made.data.targets["y"][:, 0] - made.data.inputs @ made.heads["y"]
        last = made.data.targets["time_3"]
        explained = torch.linalg.lstsq(last, left[:, None]).solution.square().sum()
        assert bool(explained > 0.05) == knows


def test_horizons_are_of_one_severity_or_each_of_its_own():
    for common in (True, False):
        made = horizons(2, rows=MANY, steps=(1, 4), common=common)
        near, far = (made.heads[name] for name in ("in_1", "in_4"))
        assert float(near @ far) == pytest.approx(1.0 if common else 0.0, abs=1e-9)
        for step, name in ((1, "in_1"), (4, "in_4")):
            h = made.data.inputs @ made.heads[name]
            left = made.data.targets[name][:, 0] - 0.9**step * h
            assert float(left.square().mean()) == pytest.approx(made.least_loss[name], rel=0.05)


def test_what_cannot_be_is_refused():
    with pytest.raises(UsageError, match="labs must be at least 1"):
        severity(0, rows=5, labs=0)
    with pytest.raises(UsageError, match="direct is a share"):
        course(0, rows=5, direct=2.0)
    with pytest.raises(UsageError, match="horizon must be at least 1"):
        horizons(0, rows=5, steps=(0, 1))
