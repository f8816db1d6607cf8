import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import Ridge

from mtlbook.book.studies import school_hard_sharing as study
from mtlbook.data import Holdout, MultiTaskData, school
from mtlbook.tasks import Task
from tests.book.studies.stand_ins import schools_of_28_inputs

SPLIT = Holdout(train=20, validation=20, test=20)


def test_the_largest_data_sets_come_first_with_their_own_rows():
    sizes = {"few": 2, "many": 5, "some": 3}
    sets = {
        Task.regression(name): (torch.full((rows, 2), float(rows)), torch.full((rows, 1), -1.0))
        for name, rows in sizes.items()
    }
    chosen = study.largest(MultiTaskData.several(sets), 2)
    assert [task.name for task in chosen.tasks] == ["many", "some"]
    assert chosen.inputs[chosen.labelled["many"]].unique().tolist() == [5.0]
    assert int(chosen.labelled["some"].sum()) == 3


@pytest.fixture(scope="module")
def results() -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(school, "load", schools_of_28_inputs)
        return study.run(range(2), "cpu", counts=(1, 2, 4), split=SPLIT, steps=20)


def test_every_method_is_measured_for_every_seed(results):
    assert list(results.columns) == ["seed", "method", "schools", "metric", "value"]
    assert np.isfinite(results.value).all()
    assert len(results) == 2 * 4
    assert set(results[results.method == "network"].schools) == {1, 2, 4}


def test_the_units_do_not_depend_on_how_many_schools_share(results):
    """Ridge regressions of two schools have one error, whatever company networks keep."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(school, "load", schools_of_28_inputs)
        again = study.run([0], "cpu", counts=(1, 4), split=SPLIT, steps=5)
    both = [
        frame.query("method == 'ridge' and seed == 0").value.item() for frame in (results, again)
    ]
    assert both[0] == both[1]


def test_ridge_chooses_its_penalty_by_validation_students():
    data = study.largest(schools_of_28_inputs(), 2)
    found = study.ridge(data, SPLIT, seed=0)
    drawn, errors = SPLIT.draw(data, 0), []
    for task in data.tasks:
        x, y = data.inputs.numpy(), data.targets[task.name][:, 0].numpy()
        own = data.labelled[task.name]
        train, validation, test = (
            rows[own[rows]].numpy() for rows in (drawn.train, drawn.validation, drawn.test)
        )
        trials = []
        for penalty in study.PENALTIES:
            model = Ridge(alpha=penalty).fit(x[train], y[train])
            off = [np.mean((model.predict(x[rows]) - y[rows]) ** 2) for rows in (validation, test)]
            trials.append(off)
        errors.append(min(trials)[1])
    assert found == pytest.approx(np.mean(errors))
