"""The School study at a tiny size on made-up schools, and its scores by hand."""

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler

from mtlbook.book.studies import school_data_augmentation as study
from mtlbook.data import registry
from mtlbook.training.results import Evaluation
from tests.book.studies.stand_ins import schools

needs_school = pytest.mark.skipif(
    not registry.available("school"), reason="school is not in the cache: mtlbook data fetch school"
)


@pytest.fixture
def small(monkeypatch):
    """Six schools of 100 students with four inputs in place of London's."""
    monkeypatch.setattr(study, "published", schools)


def test_explained_variance_by_both_definitions():
    source = np.random.default_rng(0)
    truth = source.standard_normal((3, 8)) + np.array([[-2.0], [0.0], [3.0]])
    predicted = truth + 0.5 * source.standard_normal((3, 8))
    found = study.scores(predicted, truth)
    total = r2_score(truth.ravel(), predicted.ravel())
    assert found["explained variance, total"] == pytest.approx(100 * total)
    # Without the schools' means in the target, and the prediction moved along, the two agree.
    means = truth.mean(1, keepdims=True)
    within = r2_score((truth - means).ravel(), (predicted - means).ravel())
    assert found["explained variance, within schools"] == pytest.approx(100 * within)
    assert within < total
    assert found["mean squared error"] == pytest.approx(np.square(predicted - truth).mean())


@torch.no_grad()
def test_each_school_has_its_own_head_on_a_common_layer():
    model = study.SharedLayer(inputs=2, width=3, schools=2).double()
    model.heads.weight.copy_(torch.arange(6).view(2, 3))
    model.heads.bias.copy_(torch.tensor([10.0, 20.0]))
    x = torch.ones(1, 2, dtype=torch.float64)
    hidden = model.trunk(x)[0]
    for school, head in ((0, [0.0, 1.0, 2.0]), (1, [3.0, 4.0, 5.0])):
        rows = torch.cat([x, torch.tensor([[float(school)]]).double()], dim=1)
        expected = hidden @ torch.tensor(head).double() + 10.0 * (school + 1)
        assert float(model(rows)["score"]) == pytest.approx(float(expected))


@pytest.mark.usefixtures("small")
def test_fewer_students_are_the_first_of_more_and_the_test_stays():
    few, many = (study.draw(3, 4, m) for m in (5, 20))
    torch.testing.assert_close(few.inputs["train"], many.inputs["train"][:, :5])
    torch.testing.assert_close(few.scores["test"], many.scores["test"])
    parts = torch.cat([many.inputs[part] for part in ("train", "validation", "test")], dim=1)
    assert parts.shape == (4, 20 + 10 + study.TEST, 4)


@pytest.mark.usefixtures("small")
def test_the_control_moves_the_inputs_of_each_school_alone():
    own = study.draw(0, 3, 5)
    mixed = study.shuffled_inputs(own, 0)
    pairs = list(zip(own.inputs["train"], mixed.inputs["train"], strict=True))
    assert not all(torch.equal(before, after) for before, after in pairs)
    for before, after in pairs:
        torch.testing.assert_close(before.sort(1).values, after.sort(1).values)
    # The same order in each part, so that what a school can learn by itself stays.
    ridge = study.alone(own)
    np.testing.assert_allclose(study.alone(mixed), ridge, atol=1e-8)


@pytest.mark.usefixtures("small")
def test_units_are_those_of_the_training_students_and_are_undone_for_the_report():
    raw = study.draw(0, 4, 10)
    own = raw.standardised(raw)
    peer = StandardScaler().fit(raw.inputs["train"].flatten(0, 1).numpy())
    for part, x in raw.inputs.items():
        expected = peer.transform(x.flatten(0, 1).numpy())
        np.testing.assert_allclose(own.inputs[part].flatten(0, 1).numpy(), np.asarray(expected))
    assert float(own.scores["train"].mean()) == pytest.approx(0)
    assert float(own.scores["train"].std(correction=0)) == pytest.approx(1)
    np.testing.assert_allclose(own.truth, raw.scores["test"].numpy())


@pytest.mark.usefixtures("small")
def test_a_tiny_run_has_every_method_and_finite_scores():
    table = study.run([0, 1], "cpu", schools=4, students=(5,), together=(1, 4), steps=5)
    assert list(table.columns) == ["seed", "method", "schools", "students", "metric", "value"]
    assert np.isfinite(table["value"]).all()
    arms = set(table[["method", "schools"]].itertuples(index=False, name=None))
    assert arms == {
        ("networks", 1),
        ("networks", 4),
        ("networks, inputs shuffled", 4),
        ("ridge", 1),
        ("ridge", 4),
        ("least squares, 75 % of all students", 139),
    }
    worse = table.query(
        "method == 'networks' and schools == 1 and metric == 'schools worse than alone'"
    )
    assert set(worse["value"]) == {0.0}
    # One law: who pools five students of four schools knows it better than who has five alone.
    ridge = table.query("method == 'ridge' and metric == 'mean squared error'")
    pooled, alone = (np.mean(ridge["value"][ridge["schools"] == size]) for size in (4, 1))
    assert pooled < alone


@pytest.mark.usefixtures("small")
def test_each_school_takes_what_was_best_for_its_own_validation_students():
    chosen = study.draw(0, 2, 10).standardised(study.draw(0, 2, 10))
    best = study.BestOfEachSchool(lambda _: chosen.group([0, 1]), 2, 5)
    truth = [chosen.scores[part].numpy() for part in ("validation", "test")]

    class Constant(torch.nn.Module):
        def __init__(self, of_schools):
            super().__init__()
            self.of_schools = of_schools

        def forward(self, inputs):
            return {"score": torch.tensor(self.of_schools)[inputs[:, -1:].long()]}

    means = truth[0].mean(1)
    for shown in ([3.0, 0.0], [0.0, 2.0], [1.0, 1.0]):
        best(
            Evaluation(
                step=1, steps=3, trials=("",), seeds=(7,), losses={},
                model=lambda _trial, _seed, shown=shown: Constant(means + shown),
            )
        )  # fmt: skip
    # School 0 was best the second time, school 1 the first time.
    np.testing.assert_allclose(best.predicted[7], np.tile(means[:, None], (1, study.TEST)))


@needs_school
def test_pooled_least_squares_has_the_explained_variance_of_the_literature():
    found = [study.least_squares(seed) for seed in range(3)]
    total = np.mean([each["explained variance, total"] for each in found])
    within = np.mean([each["explained variance, within schools"] for each in found])
    assert total == pytest.approx(33.8, abs=1.5)
    assert within == pytest.approx(22.0, abs=2.0)
