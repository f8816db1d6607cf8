"""Two clusters of tasks whose heads correlate inside, and with the opposite sign between."""

import pytest
import torch

from mtlbook.book.data.worlds.signed_clusters import (
    cluster_signs,
    signed_clusters,
    source_task,
    task_correlations,
)
from mtlbook.errors import UsageError

NAMES = [f"task_{number}" for number in range(1, 7)]


def head_correlations(**dials):
    made = signed_clusters(0, rows=1, inputs=2, features=20_000, **dials)
    return torch.corrcoef(torch.stack(list(made.heads.values())))


@pytest.mark.parametrize(
    "dials", [{}, {"correlation": 0.5, "opposed": 2}, {"opposed": 0}, {"correlation": 0.0}]
)
def test_the_heads_have_the_covariance_that_is_said(dials, monkeypatch):
    from mtlbook.book.data.worlds import signed_clusters as module

    # The signals of 20,000 features at 10,000 reference inputs are not what is tested.
    monkeypatch.setattr(module, "reference_inputs", lambda seed, inputs: torch.eye(2).double())
    torch.testing.assert_close(
        head_correlations(**dials), task_correlations(**dials), atol=0.03, rtol=0
    )


def test_signals_have_variance_one_and_the_noise_is_what_is_said():
    made = signed_clusters(0, rows=20_000, noise=0.3)
    for name in NAMES:
        own = made.data.labelled[name]
        assert float(made.noiseless[name].var()) == pytest.approx(1.0, abs=0.06)
        error = made.data.targets[name][own] - made.noiseless[name]
        assert float(error.std()) == pytest.approx(0.3, abs=0.01)
        assert made.least_loss[name] == pytest.approx(0.09)


def test_opposed_tasks_have_opposed_signals():
    """At ρ = 1 on the same inputs one task is the other with the sign turned."""
    made = signed_clusters(0, rows=5, tasks=2, correlation=1.0)
    x, heads = made.data.inputs, list(made.heads.values())
    features = torch.tanh(x @ made.features["task_1"])
    torch.testing.assert_close(features @ heads[0], -(features @ heads[1]))


def test_fewer_rows_are_the_first_and_another_task_changes_nothing():
    many, few = (
        signed_clusters(1, rows=50, opposed=3),
        signed_clusters(1, rows=20, tasks=5, opposed=2),
    )
    for name in NAMES[:5]:
        first, own = many.data.labelled[name], few.data.labelled[name]
        assert torch.equal(few.data.inputs[own], many.data.inputs[first][:20])
        assert torch.equal(few.data.targets[name][own], many.data.targets[name][first][:20])


def test_each_row_is_labelled_for_its_own_task():
    made = signed_clusters(0, rows=4)
    assert torch.stack(list(made.data.labelled.values())).sum(0).eq(1).all()


def test_the_source_has_the_clusters_features_and_heads_of_its_own():
    made, source = signed_clusters(3, rows=4), source_task(3, rows=2_000)
    assert torch.equal(source.features["source"], made.features["task_1"])
    assert source.data.targets["source"].shape == (2_000, 8)
    assert float(source.data.targets["source"].var(0).mean()) == pytest.approx(1.0, abs=0.1)
    both = torch.cat([source.heads["source"].T, torch.stack(list(made.heads.values()))])
    assert torch.linalg.matrix_rank(both[:2]) == 2
    assert torch.equal(source_task(3, rows=10).data.inputs, source.data.inputs[:10])


def test_the_true_correlations_are_a_covariance():
    for opposed in range(7):
        truth = task_correlations(6, 0.9, opposed)
        assert float(torch.linalg.eigvalsh(truth).min()) == pytest.approx(0.1)
    assert torch.equal(task_correlations(6, 0.0), torch.eye(6, dtype=torch.float64))


def test_impossible_worlds_are_refused():
    with pytest.raises(UsageError, match="opposed counts tasks"):
        signed_clusters(0, rows=3, opposed=7)
    with pytest.raises(UsageError, match="opposed counts tasks"):
        cluster_signs(3, -1)
    with pytest.raises(UsageError, match="correlation is a share"):
        signed_clusters(0, rows=3, correlation=-0.9)
    with pytest.raises(UsageError, match="rows must be at least 1"):
        source_task(0, rows=0)
    with pytest.raises(UsageError, match="noise"):
        signed_clusters(0, rows=3, noise=-1.0)
