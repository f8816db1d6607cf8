import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression, LogisticRegression
from torch import nn

from mtlbook.data.multi_task_data import Holdout
from mtlbook.errors import UsageError
from mtlbook.mechanisms.eavesdropping import (
    feature_share,
    overheard_features,
    readability,
)
from mtlbook.sharing.hard import HardSharing
from mtlbook.training.fit import fit
from mtlbook.training.settings import Settings
from mtlbook.transfer.linear_probe import hidden_layer

ROWS = 20_000


def linear_accuracy(inputs, labels):
    """Of scikit-learn's logistic regression, fitted to one half and tested on the other."""
    half = len(inputs) // 2
    model = LogisticRegression(C=1e3).fit(inputs[:half], labels[:half])
    return model.score(inputs[half:], labels[half:])


# The world ----------------------------------------------------------------------------------------


@given(seed=st.integers(0, 10_000), features=st.integers(2, 4), overlap=st.floats(0, 1))
def test_the_dial_is_the_cosine_between_the_tasks_features(seed, features, overlap):
    world = overheard_features(seed, rows=1, inputs=9, features=features, overlap=overlap)
    own, heard = world.features["hard"], world.features["easy"]
    identity = torch.eye(features, dtype=torch.float64)
    torch.testing.assert_close(own.T @ own, identity)
    torch.testing.assert_close(heard.T @ heard, identity)
    torch.testing.assert_close(own.T @ heard, overlap * identity)


@pytest.mark.parametrize("features", [2, 3])
def test_the_hard_task_is_the_parity_of_the_features_signs(features):
    world = overheard_features(3, rows=500, features=features)
    g = world.data.inputs @ world.features["hard"]
    negative = (g < 0).sum(1)
    assert torch.equal(world.data.targets["hard"][:, 0], (negative % 2 == 0).double())
    torch.testing.assert_close(world.data.targets["hints"], g)


def test_a_linear_function_learns_the_easy_task_and_nothing_of_the_hard_one():
    data = overheard_features(0, rows=ROWS, noise=0.0).data
    inputs, hard = data.inputs.numpy(), data.targets["hard"][:, 0].numpy()
    assert linear_accuracy(inputs, data.targets["easy"].numpy()) > 0.98
    # Every feature is uncorrelated with the label; by chance R² is inputs / rows.
    assert LinearRegression().fit(inputs, hard).score(inputs, hard) < 3 * 20 / ROWS


@pytest.mark.parametrize("features", [2, 3])
@pytest.mark.parametrize("overlap", [0.0, 0.5, 1.0])
def test_the_easy_label_says_nothing_about_the_hard_one(features, overlap):
    """In every class of the easy task the parity is a fair coin, though both use the features."""
    data = overheard_features(9, rows=ROWS, features=features, overlap=overlap).data
    hard, easy = data.targets["hard"][:, 0], data.targets["easy"]
    for label in range(2 * features):
        own = hard[easy == label]
        assert abs(float(own.mean()) - 0.5) < 4 * 0.5 / np.sqrt(len(own))


def test_one_of_two_features_tells_nothing_and_both_tell_all():
    world = overheard_features(1, rows=ROWS)
    g = (world.data.inputs @ world.features["hard"]).numpy()
    hard = world.data.targets["hard"][:, 0].numpy()
    margin = 3 * 0.5 / np.sqrt(ROWS / 2)
    for feature in (0, 1):
        assert abs(hard[g[:, feature] > 0].mean() - 0.5) < margin
    assert (hard == (g[:, 0] * g[:, 1] > 0)).all()


@pytest.mark.parametrize("flips", [0.0, 0.1, 0.5])
def test_flips_are_the_least_error_of_the_hard_task(flips):
    world = overheard_features(2, rows=ROWS, flips=flips)
    wrong = (world.data.targets["hard"] != world.noiseless["hard"]).double().mean()
    assert abs(float(wrong) - flips) <= 3 * np.sqrt(flips * (1 - flips) / ROWS)


@pytest.mark.parametrize("overlap", [0.0, 0.6, 1.0])
def test_the_easy_task_is_as_easy_at_every_place_of_the_dial(overlap):
    """Its error given the features is that of four half-axes in the plane."""
    world = overheard_features(4, rows=ROWS, overlap=overlap, noise=0.5)
    error = (world.data.targets["easy"] != world.noiseless["easy"]).double().mean()
    random = np.random.default_rng(0)
    g = random.normal(size=(10 * ROWS, 2))
    scores = np.concatenate([g, -g], axis=1)
    noisy = scores + 0.5 * random.normal(size=scores.shape)
    expected = (scores.argmax(1) != noisy.argmax(1)).mean()
    assert abs(float(error) - expected) < 0.012


def test_at_the_other_end_of_the_dial_the_easy_task_says_nothing_about_the_features():
    told = {}
    for overlap in (0.0, 1.0):
        world = overheard_features(5, rows=ROWS, overlap=overlap)
        g = (world.data.inputs @ world.features["hard"]).numpy()
        classes = nn.functional.one_hot(world.data.targets["easy"]).numpy()
        told[overlap] = LinearRegression().fit(classes, g).score(classes, g)
    assert told[0.0] < 0.002
    assert told[1.0] > 0.5


def test_shuffled_labels_are_the_same_labels_on_other_rows():
    plain = overheard_features(6, rows=3000).data
    shuffled = overheard_features(6, rows=3000, shuffled=True).data
    assert torch.equal(plain.inputs, shuffled.inputs)
    assert torch.equal(plain.targets["hard"], shuffled.targets["hard"])
    easy = plain.targets["easy"], shuffled.targets["easy"]
    assert torch.equal(torch.bincount(easy[0]), torch.bincount(easy[1]))
    agree = float((easy[0] == easy[1]).double().mean())
    by_chance = float((torch.bincount(easy[0]) / 3000).square().sum())
    assert abs(agree - by_chance) < 0.04


def test_a_split_limits_the_labels_of_each_task():
    data = overheard_features(7, rows=300).data
    split = Holdout(200, 50, 50, labels={"hard": 20, "easy": 160, "hints": 40}).draw(data, 0)
    kept = {name: int(marks[split.train].sum()) for name, marks in split.labelled.items()}
    assert kept == {"hard": 20, "easy": 160, "hints": 40}


@pytest.mark.parametrize(
    "wrong",
    [{"inputs": 3}, {"overlap": 1.1}, {"flips": 0.6}, {"noise": -0.1}, {"features": 1}],
)
def test_impossible_worlds_are_refused(wrong):
    with pytest.raises(UsageError):
        overheard_features(0, rows=10, **wrong)


# The probes ---------------------------------------------------------------------------------------


def test_the_share_of_random_weights_is_that_of_the_directions():
    source = torch.Generator().manual_seed(0)
    weights = torch.randn(5000, 20, generator=source)
    features = torch.randn(20, 2, generator=source)
    assert feature_share(weights, features) == pytest.approx(0.1, abs=0.01)


def test_features_come_to_where_the_weights_are():
    # A network in half the precision stands for one on another device: `to` moves both.
    features, weights = torch.eye(4).double()[:, :2], torch.ones(3, 4)
    assert feature_share(weights, features) == pytest.approx(0.5)
    if torch.cuda.is_available():
        assert feature_share(weights.cuda(), features) == pytest.approx(0.5)


def test_the_share_of_weights_within_and_across_the_features():
    features = torch.eye(4)[:, :2] @ torch.tensor([[1.0, 2.0], [0.5, 3.0]])
    within = torch.tensor([[1.0, -2.0, 0.0, 0.0], [3.0, 0.0, 0.0, 0.0]])
    across = torch.tensor([[0.0, 0.0, 1.0, 5.0]])
    assert feature_share(within, features) == pytest.approx(1.0)
    assert feature_share(across, features) == pytest.approx(0.0, abs=1e-12)
    # 14 of 14 + 26: squared lengths add up.
    assert feature_share(torch.cat([within, across]), features) == pytest.approx(14 / 40)


def test_a_probe_reads_a_known_representation():
    source = torch.Generator().manual_seed(1)
    features = torch.randn(2000, 2, generator=source)
    nothing = torch.randn(2000, 6, generator=source)
    turned = features @ torch.tensor([[0.6, 0.8], [-0.8, 0.6]])
    assert readability(turned, features, 10) > 0.999
    assert readability(nothing, features, 1000) == pytest.approx(0.0, abs=0.02)
    # Half of the variance of a feature is noise: no probe reads more than the other half.
    noisy = features + torch.randn(2000, 2, generator=source)
    assert readability(noisy, features, 1000) == pytest.approx(0.5, abs=0.03)


def test_a_probe_with_few_examples_tells_a_focused_layer_from_a_wide_one():
    world = overheard_features(8, rows=1000)
    x, g = world.data.inputs, world.data.targets["hints"]
    assert readability(x, g, 100) > 0.999
    assert readability(x, g, 10) < 0.6
    assert readability(g, g, 10) > 0.999


def test_of_several_probes_the_median_counts():
    """One set of examples whose layer says something else spoils one probe, and not the median."""
    features = torch.randn(300, 2, generator=torch.Generator().manual_seed(1)).double()
    hidden = features.clone()
    hidden[:10] = -hidden[:10]
    assert readability(hidden, features, 10) < 0
    assert readability(hidden, features, 10, sets=3) > 0.999


def test_a_probe_needs_examples_on_either_side():
    for examples, sets in ((5, 1), (1, 1), (2, 3), (2, 0)):
        with pytest.raises(UsageError, match="2 or more"):
            readability(torch.zeros(5, 2), torch.zeros(5, 1), examples, sets)


def test_the_mechanism_shows_in_the_layer():
    """A network that learns hints beside the hard task has the features, a shuffled task not."""

    def share(other, shuffled):
        def data(seed):
            return overheard_features(seed, rows=1100, shuffled=shuffled).data

        def build(data, seed):
            heads = {task.name: nn.Linear(16, task.outputs) for task in data.tasks}
            return HardSharing(lambda: [nn.Linear(20, 16), nn.ReLU()], heads)

        settings = Settings(
            tasks=["hard", other],
            split=Holdout(train=200, validation=100, test=100),
            steps=150,
            learning_rate=0.03,
            device="cpu",
        )
        trained = fit(build, data, seeds=range(4), settings=settings)
        shares = []
        for seed in range(4):
            model = trained.model(seed)
            assert isinstance(model, HardSharing)
            (weights, *_) = model.trunk.parameters()
            shares.append(feature_share(weights, overheard_features(seed, rows=1).features["hard"]))
            hidden = hidden_layer(model.trunk, data(seed).inputs[:7])
            assert hidden.shape == (7, 16)
            assert not hidden.requires_grad
        return np.mean(shares)

    assert share("hints", shuffled=False) > share("easy", shuffled=True) + 0.2
