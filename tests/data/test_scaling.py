"""Scaling against scikit-learn's pipeline on the training rows, and what must not change it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.data.scaling import RawTable, scaled, standardised
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.tasks import Task

SPLIT = Holdout(train=20, validation=10, test=10)
PRICE, WEIGHT, LABEL = Task.regression("price"), Task.regression("weight"), Task.binary("label")


def drawn(*shape: int, purpose: str = "table") -> torch.Tensor:
    numbers = torch.randn(*shape, generator=generator(0, purpose), dtype=torch.float64)
    return 3 * numbers + torch.arange(shape[-1])


def table(inputs: torch.Tensor, labelled: torch.Tensor | None = None) -> RawTable:
    rows = len(inputs)
    every = torch.ones(rows, dtype=torch.bool)
    targets = {
        "price": 5 + drawn(rows, 1, purpose="price"),
        "weight": drawn(rows, 1, purpose="weight"),
        "label": (torch.arange(rows)[:, None] % 2).double(),
    }
    marks = {"price": every, "weight": every if labelled is None else labelled, "label": every}
    return RawTable((PRICE, WEIGHT, LABEL), inputs, targets, marks)


def test_agrees_with_scikit_learns_pipeline_fitted_to_the_training_rows():
    inputs = drawn(40, 4)
    inputs[torch.rand(40, 4, generator=generator(0, "gaps")) < 0.2] = torch.nan
    raw = table(inputs)
    train = SPLIT.draw(raw.filled(), 3).train
    peer = make_pipeline(SimpleImputer(), StandardScaler()).fit(inputs[train].numpy())
    data = scaled(raw, SPLIT, 3)
    torch.testing.assert_close(data.inputs, torch.from_numpy(peer.transform(inputs.numpy())))
    price = raw.targets["price"].numpy()
    expected = StandardScaler().fit(price[train.numpy()]).transform(price)
    torch.testing.assert_close(data.targets["price"], torch.from_numpy(expected))
    assert torch.equal(data.targets["label"], raw.targets["label"])
    # The split that the training draws is the one that scaled.
    assert torch.equal(SPLIT.draw(data, 3).train, train)


def test_other_rows_than_those_of_training_have_no_say():
    raw = table(drawn(40, 4))
    drawn_rows = SPLIT.draw(raw.filled(), 0)
    others = torch.cat([drawn_rows.validation, drawn_rows.test])
    changed = table(raw.inputs.clone())
    changed.inputs[others] *= 100
    changed.targets["price"][others] += 1000
    one, other = scaled(raw, SPLIT, 0), scaled(changed, SPLIT, 0)
    assert torch.equal(one.inputs[drawn_rows.train], other.inputs[drawn_rows.train])
    rows = drawn_rows.train
    assert torch.equal(one.targets["price"][rows], other.targets["price"][rows])


def test_labels_that_may_not_be_used_have_no_say():
    labelled = torch.arange(40) % 3 != 0
    few = Holdout(train=20, validation=10, test=10, labels={"price": 5})
    raw = table(drawn(40, 4))
    use = few.draw(raw.filled(), 0)
    known = raw.targets["price"][use.train[use.labelled["price"][use.train]]]
    assert len(known) == 5
    expected = (raw.targets["price"] - known.mean()) / known.std(correction=0)
    torch.testing.assert_close(scaled(raw, few, 0).targets["price"], expected)
    halves = Holdout(train=0.5, validation=0.25, test=0.25)
    partial = scaled(table(drawn(40, 4), labelled), halves, 0)
    assert (partial.targets["weight"][~labelled] == 0).all()


def test_columns_targets_and_levels_stay_where_asked():
    raw = table(drawn(40, 4)).filled()
    data = scaled(raw, SPLIT, 0, columns=[0, 2], targets=["weight"])
    assert torch.equal(data.inputs[:, [1, 3]], raw.inputs[:, [1, 3]])
    assert not torch.equal(data.inputs[:, 0], raw.inputs[:, 0])
    assert torch.equal(data.targets["price"], raw.targets["price"])
    assert torch.equal(scaled(raw, SPLIT, 0, targets=False).targets["price"], raw.targets["price"])
    both = scaled(raw, SPLIT, 0, together=True)
    differences = [d.targets["price"] - d.targets["weight"] for d in (raw, both)]
    ratio = differences[1] / differences[0]
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))
    rows = SPLIT.draw(raw, 0).train
    pooled = torch.cat([both.targets[name][rows] for name in ("price", "weight")])
    torch.testing.assert_close(pooled.std(correction=0), torch.tensor(1.0).double())


def test_what_cannot_be_scaled_is_refused():
    raw = table(drawn(40, 4))
    with pytest.raises(UsageError, match=r"\['label'\] cannot be scaled"):
        scaled(raw, SPLIT, 0, targets=["label"])
    gone = table(raw.inputs.clone())
    gone.inputs[:, 2] = torch.nan
    with pytest.raises(UsageError, match="column 2 of the inputs has no known value in the 20"):
        scaled(gone, SPLIT, 0)
    images = MultiTaskData.multi_label([LABEL], torch.ones(4, 2, 2), {"label": torch.arange(4) % 2})
    with pytest.raises(UsageError, match="columns of flat inputs are scaled"):
        scaled(images, SPLIT, 0)


def test_a_column_that_is_constant_in_training_becomes_zero():
    # 0.1 is not a binary fraction: its mean over seven rows differs from it by rounding.
    training = torch.full((7, 1), 0.1, dtype=torch.float64)
    values = torch.tensor([[0.1], [0.2]], dtype=torch.float64)
    assert torch.equal(standardised(values, training), torch.zeros(2, 1, dtype=torch.float64))


@given(shift=st.floats(-100, 100), factor=st.floats(0.01, 100))
def test_units_do_not_matter(shift: float, factor: float):
    values = torch.tensor([[1.0, 2.0], [4.0, -1.0], [2.5, 0.0]], dtype=torch.float64)
    changed = factor * values + shift
    torch.testing.assert_close(
        standardised(changed, changed[:2]), standardised(values, values[:2]), rtol=1e-6, atol=1e-8
    )
