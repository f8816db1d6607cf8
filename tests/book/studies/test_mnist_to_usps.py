"""The study of MNIST and USPS: its parts on made-up images, and all of it at a tiny size."""

import torch

from mtlbook.book.data.shifted_digits import DIGIT
from mtlbook.book.studies import mnist_to_usps as study
from tests.book.studies.stand_ins import digits


def plain(count: int, value: float) -> torch.Tensor:
    return torch.full((count, 16, 16), value)


def test_rescaling_keeps_the_share_of_ink_and_the_range():
    large = torch.rand(20, 28, 28, generator=torch.Generator().manual_seed(0))
    small = study.rescaled(large)
    assert small.shape == (20, 16, 16)
    assert float(small.min()) >= 0
    assert float(small.max()) <= 1
    torch.testing.assert_close(small.mean(), large.mean(), atol=0.01, rtol=0)
    assert torch.equal(study.rescaled(small), small)


def test_drawn_images_keep_their_labels_and_depend_on_the_seed():
    labels = torch.arange(100)
    marked = (labels.float() / 100)[:, None, None].expand(-1, 16, 16).clone()
    first, second = (study.drawn(marked, labels, 30, seed, "train") for seed in (0, 1))
    assert len(set(first[1].tolist())) == 30
    torch.testing.assert_close(first[0][:, 0, 0], first[1] / 100)
    assert first[1].tolist() != second[1].tolist()


def test_no_label_of_the_target_is_in_the_data():
    rows = study.SOURCE + study.VALIDATION
    train = (plain(rows, 0.5), torch.full((rows,), 3))
    test = (plain(7, 0.5), torch.full((7,), 4))
    data = study.domains(train, plain(study.TARGET, 1.0), test, plain(5, 1.0))
    of_target = data.targets["domain"][:, 0] == 1
    assert int(of_target.sum()) == study.TARGET + 5
    assert bool((data.inputs[of_target] == 1).all())
    assert bool((data.inputs[~of_target] == 0).all())  # 0.5, centred
    assert torch.equal(data.labelled[DIGIT.name], ~of_target)
    assert bool((data.targets[DIGIT.name][of_target] == 0).all())


def test_the_whole_study_at_a_tiny_size(monkeypatch):
    monkeypatch.setattr(study.mnist, "load", lambda: digits(train=260, test=40, side=28))
    monkeypatch.setattr(study.usps, "load", lambda: digits(train=100, test=30, side=16))
    for name, count in {"SOURCE": 200, "TARGET": 80, "VALIDATION": 40, "SOURCE_TEST": 30}.items():
        monkeypatch.setattr(study, name, count)
    results = study.run([0, 1], "cpu", steps=4)
    assert results.columns.tolist() == ["seed", "method", "metric", "value"]
    assert results.groupby("seed").size().tolist() == [7, 7]
    by_method = results.groupby("method").metric.apply(set)
    measures = {"source error", "target error", "proxy A-distance"}
    assert by_method["source only"] == measures
    assert by_method["gradient reversal"] == measures | {"own domain head"}
    errors = results[results.metric.str.endswith("error")].value
    # Shares of the 30 test images of each domain.
    assert ((30 * errors - (30 * errors).round()).abs() < 1e-9).all()
    assert errors.between(0, 1).all()
    # The domains' images differ in size, and so in sharpness.
    assert results[results.metric == "proxy A-distance"].value.between(0, 2).all()
