import numpy as np
import pandas as pd
import pytest

from mtlbook.book.studies import school_relationships as study
from mtlbook.data import Holdout, school
from tests.book.studies.stand_ins import schools_of_28_inputs

SPLIT = Holdout(train=20, validation=20, test=20)
METHODS = {
    "single-task", "hard sharing", "independent L2", "squared distance", "learnt covariance",
}  # fmt: skip


@pytest.fixture(scope="module")
def results() -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(school, "load", schools_of_28_inputs)
        return study.run(range(2), "cpu", schools=3, split=SPLIT, steps=20)


def test_every_contestant_is_measured_for_every_seed_and_school(results):
    assert list(results.columns) == ["seed", "method", "school", "metric", "value"]
    assert np.isfinite(results.value).all()
    losses = results[results.metric == "loss"]
    assert set(losses.method) == METHODS
    assert (losses.groupby(["seed", "method"]).school.nunique() == 3).all()
    assert len(losses) == 2 * 5 * 3


def test_alike_schools_are_found_to_be_alike(results):
    found = results[results.metric == "mean correlation"]
    assert list(found.seed) == [0, 1]
    assert (found.value > 0.1).all()
