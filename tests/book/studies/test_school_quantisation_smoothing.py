"""The study of School for section 7.5, on made-up students."""

import numpy as np
import pytest
import torch

from mtlbook.book.studies import school_quantisation_smoothing as study
from mtlbook.data.multi_task_data import Holdout
from tests.book.studies.stand_ins import schools_of_28_inputs


def test_the_students_of_all_schools_are_one_table():
    schools = schools_of_28_inputs()
    made = study.of_students(schools)
    assert made.inputs.shape == (240, 27)
    assert float(made.targets["label"].mean()) == pytest.approx(0.1, abs=0.01)
    assert float(made.targets["second"].mean()) == pytest.approx(0.5, abs=0.01)
    for school in schools.tasks:
        rows = schools.labelled[school.name]
        assert torch.equal(made.targets["degree"][rows], schools.targets[school.name][rows])


def test_the_whole_study_at_a_tiny_size(monkeypatch):
    monkeypatch.setattr(study, "SPLIT", Holdout(train=100, validation=60, test=70))
    monkeypatch.setattr(study, "STEPS", 10)
    monkeypatch.setattr(study.school, "load", schools_of_28_inputs)
    results = study.run([0, 1], "cpu")
    assert results.columns.tolist() == ["seed", "method", "metric", "value"]
    assert np.isfinite(results.value).all()
    assert set(results.groupby(["metric", "method"]).size()) == {2}
    assert set(results.metric) == {"loss", "calibrated loss", "area under the curve"}
