import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import Ridge

from mtlbook.book.studies import school_data_augmentation
from mtlbook.book.studies import school_representation_bias as study
from mtlbook.book.studies.school_data_augmentation import Students
from mtlbook.randomness import generator
from tests.book.studies.stand_ins import schools


def constructed(schools: int, slopes: torch.Tensor) -> Students:
    """Schools whose scores are one law up to a slope and a level of each school's own."""
    sizes = {"train": 12, "validation": 6, "test": 7}
    inputs, scores = {}, {}
    for name, size in sizes.items():
        draw = generator(0, "study", name)
        inputs[name] = torch.randn(schools, size, 3, generator=draw, dtype=torch.float64)
        law = inputs[name] @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
        scores[name] = slopes[:, None] * law + torch.arange(schools)[:, None]
    return Students(inputs, scores)


def test_a_common_law_is_found_and_needs_no_head():
    students = study.part(constructed(3, torch.ones(3).double()), range(2, 3))
    law = study.common_law(students)
    torch.testing.assert_close(law(students.inputs["test"])[:, :, 0], students.scores["test"])


def test_heads_give_each_school_its_own_slope_and_level():
    students = constructed(4, torch.tensor([0.5, 1.0, 2.0, -1.0]).double())
    law = study.common_law(study.part(students, range(1, 2)))
    predicted = study.heads(students, law)
    # What a ridge regression on the one feature says, its penalty the smallest of the four.
    for school in range(4):
        feature = [law(students.inputs[name][school]).numpy() for name in ("train", "test")]
        peer = Ridge(alpha=12 * study.PENALTIES[0]).fit(
            feature[0], students.scores["train"][school].numpy()
        )
        np.testing.assert_allclose(predicted[school], peer.predict(feature[1]), atol=1e-9)


def test_part_keeps_the_order_of_the_schools():
    students = constructed(4, torch.ones(4).double())
    some = study.part(students, range(1, 3))
    assert torch.equal(some.scores["train"], students.scores["train"][1:3])
    assert torch.equal(some.inputs["test"], students.inputs["test"][1:3])


@pytest.fixture(scope="module")
def results() -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(school_data_augmentation, "published", schools)
        return study.run(
            range(2), "cpu", schools=6, new=2, known=(1, 3), students=(5, 10), steps=10
        )


def test_every_method_is_measured_at_every_size(results):
    assert list(results.columns) == ["seed", "method", "schools", "students", "metric", "value"]
    assert np.isfinite(results.value).all()
    # Two frozen layers, the common law with and without a head, and two learners alone.
    assert len(results) == 2 * 2 * 6 * 3
    assert set(results.schools) == {0, 1, 3, 4}


def test_both_explained_variances_are_of_the_same_predictions(results):
    wide = results.pivot_table(
        index=["seed", "students", "method", "schools"], columns="metric", values="value"
    )
    for _, own in wide.groupby(level=["seed", "students"]):
        # 100 − EV is the error over one variance or the other: the ratio is one for all methods.
        for name in ("total", "within schools"):
            ratio = (100 - own[f"explained variance, {name}"]) / own["mean squared error"]
            np.testing.assert_allclose(ratio, ratio.iloc[0])
    total, within = (wide[f"explained variance, {name}"] for name in ("total", "within schools"))
    assert (total > within).all()


def test_a_law_that_uses_no_new_student_does_not_depend_on_their_number(results):
    law = results[(results.method == "common law") & (results.metric == "mean squared error")]
    by_size = law.pivot_table(index="seed", columns="students", values="value")
    np.testing.assert_allclose(by_size[5], by_size[10])
