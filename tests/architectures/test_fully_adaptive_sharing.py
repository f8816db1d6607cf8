import pickle
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import SpectralClustering
from sklearn.metrics import adjusted_rand_score, cohen_kappa_score
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from mtlbook.architectures.cross_stitch import CrossStitch
from mtlbook.architectures.fully_adaptive_sharing import (
    Tree,
    TreeNetwork,
    affinity,
    best_grouping,
    branch_affinity,
    chance_corrected,
    difficult,
    groupings,
    margins,
    separation,
    widen,
)
from mtlbook.errors import UsageError
from mtlbook.layers.dropout import Dropout
from mtlbook.randomness import generator
from mtlbook.sharing.hard import HardSharing, separate_networks
from tests.equal import exactly

pytestmark = pytest.mark.usefixtures("double")

# Six tasks that branch twice: all share stage 1, stage 2 has two branches, stage 3 four.
BRANCHED = Tree(((0,) * 6, (0, 0, 0, 1, 1, 1), (0, 1, 0, 2, 3, 3)))
PAIR = Tree(((0, 0), (0, 1)))


def dense() -> list[nn.Module]:
    sizes = [(5, 6), (6, 4), (4, 3)]
    return [nn.Sequential(nn.Linear(i, o), nn.Tanh()) for i, o in sizes]


def convolutional() -> list[nn.Module]:
    sizes = [(2, 3), (3, 4), (4, 3)]
    return [nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.ReLU()) for i, o in sizes]


def names(tasks: int) -> list[str]:
    return [f"task_{number}" for number in range(1, tasks + 1)]


def network(
    tree: Tree,
    stages: Callable[[], Sequence[nn.Module]] = dense,
    room: Sequence[int] | None = None,
) -> TreeNetwork:
    depth = len(tree.groups)
    head = nn.Linear if stages is dense else partial(nn.Conv2d, kernel_size=1)
    width = [6, 4, 3][depth - 1] if stages is dense else [3, 4, 3][depth - 1]
    heads = {name: head(width, 1) for name in names(len(tree.groups[0]))}
    return TreeNetwork(lambda: stages()[:depth], heads, tree, room=room)


def random(*shape: int, purpose: str = "numbers") -> Tensor:
    return torch.randn(*shape, generator=generator(0, purpose))


def inputs(stages: Callable[[], Sequence[nn.Module]] = dense) -> Tensor:
    return random(7, 5) if stages is dense else random(3, 2, 6, 6)


def by_loop(model: TreeNetwork, x: Tensor) -> dict[str, Tensor]:
    """Each task's own path through the tree, one task after another."""
    predictions = {}
    for task, (name, head) in enumerate(model.heads.items()):
        features = x
        for place, groups in enumerate(model.tree.groups):
            features = model.get_submodule(f"branches.{place}.{groups[task]}")(features)
        predictions[name] = head(features)
    return predictions


def symmetric(size: int, seed: int = 0) -> Tensor:
    values = torch.rand(size, size, generator=generator(seed, "affinity"))
    return ((values + values.T) / 2).fill_diagonal_(1.0)


# Trees --------------------------------------------------------------------------------------------


def test_branches_are_numbered_in_the_order_of_their_tasks():
    tree = Tree(((7, 7, 7), (3, 1, 3)))
    assert tree == Tree(((0, 0, 0), (0, 1, 0)))
    assert tree.shape == (1, 2)
    assert tree.members(1) == ((0, 2), (1,))
    assert tree.members(2) == ((0,), (1,), (2,))


@given(st.permutations(range(6)))
def test_a_permuted_tree_has_its_shape(order):
    permuted = BRANCHED.permuted(order)
    assert permuted.shape == BRANCHED.shape
    for own, base in zip(permuted.groups, BRANCHED.groups, strict=True):
        for i, j in product(range(6), range(6)):
            assert (own[i] == own[j]) == (base[order[i]] == base[order[j]])


def test_a_split_groups_the_branches_above():
    tree = Tree.trunk(5, 3).split(2, [0, 0, 1, 2, 2]).split(1, [0, 0, 1])
    assert tree.groups == ((0,) * 5, (0, 0, 0, 1, 1), (0, 0, 1, 2, 2))


# The network --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stages", [dense, convolutional])
@pytest.mark.parametrize("room", [None, (2, 3, 6)])
@pytest.mark.parametrize("tree", [PAIR, BRANCHED], ids=["two tasks", "six tasks"])
def test_the_network_is_the_loop_over_paths(tree, room, stages):
    own = None if room is None else room[-len(tree.groups) :]
    model, x = network(tree, stages, own), inputs(stages)
    found, looped = model(x), by_loop(model, x)
    assert list(found) == names(len(tree.groups[0]))
    for name, prediction in found.items():
        exactly(prediction, looped[name])
    trained = [values for values in model.parameters() if values.requires_grad]
    first, second = (
        torch.autograd.grad(
            torch.stack(list(made.values())).square().sum(), trained, materialize_grads=True
        )
        for made in (found, looped)
    )
    for mine, theirs in zip(first, second, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-12)


def test_a_trunk_is_hard_sharing():
    model, x = network(Tree.trunk(3, 3)), inputs()
    hard = HardSharing(dense, {name: nn.Linear(3, 1) for name in names(3)})
    for stage, own in zip(hard.trunk, model.branches, strict=True):
        stage.load_state_dict(own.get_submodule("0").state_dict())
    hard.heads.load_state_dict(model.heads.state_dict())
    for name, prediction in model(x).items():
        exactly(prediction, hard(x)[name])
    assert model.size == sum(values.numel() for values in hard.parameters())


def test_a_tree_of_single_tasks_is_separate_networks():
    tree = Tree(((0, 1, 2),) * 3)
    model, x = network(tree), inputs()
    separate = separate_networks(dense, {name: nn.Linear(3, 1) for name in names(3)})
    for task, name in enumerate(names(3)):
        for place, stage in enumerate(separate.branches[name].children()):
            stage.load_state_dict(model.get_submodule(f"branches.{place}.{task}").state_dict())
    separate.heads.load_state_dict(model.heads.state_dict())
    for name, prediction in model(x).items():
        exactly(prediction, separate(x)[name])
    assert model.size == sum(values.numel() for values in separate.parameters())


def test_a_tree_is_a_cross_stitch_network_with_one_hot_units():
    model, x = network(BRANCHED), inputs()
    columns = CrossStitch(dense, {name: nn.Linear(3, 1) for name in names(6)})
    with torch.no_grad():
        for place, groups in enumerate(BRANCHED.groups):
            for task, name in enumerate(names(6)):
                # A branch is computed in the column of its first task, which gives it to all.
                source = model.get_submodule(f"branches.{place}.{groups[task]}")
                columns.columns[name].get_submodule(str(place)).load_state_dict(source.state_dict())
            first = [groups.index(own) for own in groups]
            columns.mixing[place].copy_(nn.functional.one_hot(torch.tensor(first), 6))
    columns.heads.load_state_dict(model.heads.state_dict())
    for name, prediction in model(x).items():
        exactly(prediction, columns(x)[name])


@pytest.mark.parametrize("stages", [dense, convolutional])
@pytest.mark.parametrize("room", [None, (2, 3, 6)])
def test_a_split_leaves_the_predictions_as_they_were(room, stages):
    model, x = network(Tree.trunk(6, 3), stages), inputs(stages)
    before = model(x)
    wider = model.widened(Tree.trunk(6, 3).split(2, BRANCHED.groups[2]), room=room)
    widest = wider.widened(BRANCHED, room=room)
    for grown in (wider, widest):
        for name, prediction in grown(x).items():
            assert torch.equal(prediction, before[name])
    assert widest.tree == BRANCHED
    # They are copies: training one leaves the other.
    with torch.no_grad():
        for values in widest.parameters():
            values.add_(1.0)
    assert torch.equal(model(x)["task_1"], before["task_1"])


def test_copies_of_dropout_have_masks_of_their_own():
    heads = {name: nn.Identity() for name in names(2)}
    model = TreeNetwork(lambda: [nn.Sequential(nn.Linear(5, 4), Dropout(0.5))], heads)
    wider = model.widened(model.tree.split(0, [0, 1]))
    first, second = (wider.get_buffer(f"branches.0.{branch}.1.key") for branch in (0, 1))
    assert int(first) != int(second)


def test_spare_branches_neither_count_nor_learn():
    model = network(PAIR, room=(2, 3))
    torch.stack(list(model(inputs()).values())).square().sum().backward()
    spare = [model.get_submodule("branches.0.1"), model.get_submodule("branches.1.2")]
    for branch in spare:
        for values in branch.parameters():
            assert values.grad is not None
            assert not bool(values.grad.any())
    assert model.size == network(PAIR).size == 6 * 6 + 2 * 7 * 4 + 2 * 5


def test_different_trees_stack():
    """As in `fit`: predictions and gradients of all seeds by one call."""
    room = (2, 3, 6)
    trees = [BRANCHED, Tree.trunk(6, 3), BRANCHED.permuted([5, 3, 1, 0, 2, 4])]
    models = [network(tree, room=room) for tree in trees]
    parameters, _ = stack_module_state(models)
    x = random(3, 7, 5)

    def loss(own: dict[str, Tensor], rows: Tensor) -> Tensor:
        predicted = functional_call(models[0], own, (rows,))
        return torch.stack(list(predicted.values())).square().sum()

    together = vmap(grad(loss))(parameters, x)
    for number, model in enumerate(models):
        alone = grad(loss)(dict(model.named_parameters()), x[number])
        for name, expected in alone.items():
            torch.testing.assert_close(together[name][number], expected, rtol=1e-11, atol=1e-12)


def test_routes_are_not_trained_and_everything_is_pickled():
    model, x = network(BRANCHED), inputs()
    assert not any(route.requires_grad for route in model.routes)
    again = pickle.loads(pickle.dumps(model.widened(BRANCHED)))
    assert torch.equal(again(x)["task_4"], model(x)["task_4"])


# Affinity -----------------------------------------------------------------------------------------


def affinity_by_loop(values: np.ndarray) -> np.ndarray:
    hard = values >= values.mean(0)
    tasks = values.shape[1]
    return np.array(
        [[(hard[:, i] == hard[:, j]).mean() for j in range(tasks)] for i in range(tasks)]
    )


@pytest.mark.parametrize("tasks", [2, 6])
def test_affinity_counts_the_rows_on_which_two_tasks_agree(tasks):
    values = random(50, tasks).abs()
    found = affinity(values)
    exactly(found, torch.from_numpy(affinity_by_loop(values.numpy())))
    assert torch.equal(found, found.T)
    assert torch.equal(found.diagonal(), torch.ones(tasks))


def test_kappa_is_cohens():
    values = random(60, 3).abs()
    hard = difficult(values).numpy()
    found = chance_corrected(values)
    for i, j in product(range(3), range(3)):
        assert float(found[i, j]) == pytest.approx(cohen_kappa_score(hard[:, i], hard[:, j]))


def test_skew_alone_makes_independent_tasks_alike():
    """P(e = 1) = .2 gives A = .68, .1 gives .82; κ stays at 0."""
    for share, expected in ((0.2, 0.68), (0.1, 0.82)):
        rows = torch.rand(200_000, 2, generator=generator(0, "skew"))
        values = (rows < share).double()
        assert float(affinity(values)[0, 1]) == pytest.approx(expected, abs=0.005)
        assert float(chance_corrected(values)[0, 1]) == pytest.approx(0, abs=0.01)


def test_the_threshold_is_the_mean_margin():
    values = torch.tensor([[0.0], [0.0], [0.0], [1.0], [0.25]])
    assert difficult(values).flatten().tolist() == [0, 0, 0, 1, 1]
    labels, predicted = torch.tensor([[1.0], [0.0]]), torch.tensor([[0.75], [0.5]])
    assert margins(predicted, labels).flatten().tolist() == [0.25, 0.5]


def test_tasks_of_which_every_row_is_hard_agree():
    assert torch.equal(chance_corrected(torch.ones(4, 2)), torch.ones(2, 2))


@pytest.mark.parametrize("branches", [[[0], [1], [2]], [[0, 2], [1, 3, 4]], [[0, 1], [2], [3, 4]]])
def test_the_affinity_of_branches_by_loop(branches):
    of_tasks = symmetric(5)
    found = branch_affinity(of_tasks, branches)
    for (k, own), (m, other) in product(enumerate(branches), repeat=2):
        there = np.mean([min(float(of_tasks[i, j]) for j in other) for i in own])
        back = np.mean([min(float(of_tasks[i, j]) for j in own) for i in other])
        expected = 1.0 if k == m else (there + back) / 2
        assert float(found[k, m]) == pytest.approx(expected, abs=1e-12)
    assert torch.equal(found, found.T)


# Branching ----------------------------------------------------------------------------------------


def test_separation_by_loop():
    of_branches, groups = symmetric(5), [0, 1, 0, 0, 1]
    inside = [[0, 2, 3], [1, 4]]
    means = [np.mean([min(float(of_branches[k, m]) for m in own) for k in own]) for own in inside]
    assert separation(of_branches, groups) == pytest.approx(1 - np.mean(means), abs=1e-12)
    assert separation(of_branches, range(5)) == 0


@pytest.mark.parametrize("seed", range(5))
def test_alpha_0_is_hard_sharing_and_no_cost_separate_networks(seed):
    of_tasks = symmetric(6, seed)
    shared = separate = Tree.trunk(6, 3)
    for stage in (2, 1, 0):
        shared = widen(shared, stage, of_tasks, alpha=0.0)
        separate = widen(separate, stage, of_tasks, alpha=1.0, unit_cost=0.0)
    assert shared == Tree.trunk(6, 3)
    assert separate == Tree((tuple(range(6)),) * 3)


def test_groups_that_are_there_are_found():
    groups = [0, 0, 0, 1, 1, 1, 2, 2]
    labels = torch.tensor(groups)
    blocks = torch.where(labels[:, None] == labels, 0.8, 0.5).fill_diagonal_(1.0)
    tree = widen(Tree.trunk(8, 2), 1, blocks, alpha=10.0)
    assert list(tree.groups[1]) == groups
    assert tree.groups[0] == (0,) * 8


def test_poolings_double_the_cost():
    of_tasks, trunk = symmetric(6), Tree.trunk(6, 2)
    pooled = widen(trunk, 1, of_tasks, alpha=8.0, poolings=2)
    assert pooled == widen(trunk, 1, of_tasks, alpha=2.0)
    assert pooled != widen(trunk, 1, of_tasks, alpha=8.0)


@pytest.mark.parametrize("seed", range(4))
def test_the_best_number_of_groups_has_the_least_loss(seed):
    of_branches = symmetric(7, seed)
    for alpha in (1.0, 4.0, 12.0):
        chosen = best_grouping(of_branches, alpha=alpha, cost=0.7)
        losses = {
            own: (len(set(own)) - 1) * 0.7 + alpha * separation(of_branches, own)
            for own in groupings(of_branches)
        }
        assert losses[chosen] == pytest.approx(min(losses.values()), abs=1e-12)


@pytest.mark.parametrize("groups", [2, 3, 4])
def test_the_clusters_are_scikit_learns(groups):
    labels = torch.arange(12) % groups
    noise = 0.05 * symmetric(12)
    of_branches = (torch.where(labels[:, None] == labels, 0.8, 0.4) + noise).fill_diagonal_(1.0)
    theirs = SpectralClustering(
        groups, affinity="precomputed", assign_labels="cluster_qr", random_state=0
    ).fit_predict(of_branches.numpy())
    ours = groupings(of_branches)[groups - 1]
    assert adjusted_rand_score(theirs, ours) == 1
    assert adjusted_rand_score(labels.numpy(), ours) == 1


# What is refused ----------------------------------------------------------------------------------


def test_a_tree_that_grows_together_again_is_refused():
    with pytest.raises(UsageError, match="apart in stage 1 meet again in stage 2"):
        Tree(((0, 1), (0, 0)))
    with pytest.raises(UsageError, match="a branch for each task, at least one"):
        Tree(((0, 1), (0,)))


def test_a_tree_of_another_network_is_refused():
    heads = {name: nn.Linear(3, 1) for name in names(2)}
    with pytest.raises(UsageError, match="The tree has 2 stages and 2 tasks, the network 3 and 2"):
        TreeNetwork(dense, heads, PAIR)
    with pytest.raises(UsageError, match="at least one stage"):
        TreeNetwork(list, heads)


def test_too_little_room_is_refused():
    with pytest.raises(UsageError, match=r"have \(1, 2\) branches, more than room=\(1, 1\)"):
        network(PAIR, room=(1, 1))


def test_groups_that_do_not_fit_the_branches_are_refused():
    with pytest.raises(UsageError, match="3 groups for 2 branches above"):
        Tree.trunk(2, 2).split(1, [0, 1, 2])


def test_a_stage_that_is_split_already_is_refused():
    with pytest.raises(UsageError, match="Stage 1 is split already"):
        widen(PAIR, 1, symmetric(2), alpha=1.0)


def test_a_task_without_labels_is_refused():
    values = random(5, 3).abs()
    values[2, 1] = torch.nan
    with pytest.raises(UsageError, match=r"Tasks \[1\] have no finite margin"):
        affinity(values)
    with pytest.raises(UsageError, match="of no row"):
        affinity(values[:0])


def test_negative_weights_are_refused():
    with pytest.raises(UsageError, match="weights of at least 0, not -1"):
        best_grouping(symmetric(3), alpha=-1.0, cost=1.0)
