from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from mtlbook.architectures.sluice_networks import (
    Orthogonality,
    Sluice,
    Weights,
    mix_subspaces,
    orthogonality,
    parameter_groups,
)
from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.tasks import Task
from mtlbook.training.fit import fit
from mtlbook.training.settings import Settings
from tests.equal import exactly

NAMES = ("chunk", "pos", "ner", "srl", "parse", "topic")

pytestmark = pytest.mark.usefixtures("double")


def dense() -> list[nn.Module]:
    widths = [(5, 6), (6, 6), (6, 6)]
    return [nn.Sequential(nn.Linear(i, o), nn.Tanh()) for i, o in widths]


def convolutional() -> list[nn.Module]:
    channels = [(2, 6), (6, 6)]
    return [nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.Tanh()) for i, o in channels]


HEADS: dict[Any, Callable[[], nn.Module]] = {
    dense: lambda: nn.Linear(6, 2),
    convolutional: lambda: nn.Conv2d(6, 2, 1),
}


def network(
    tasks: int = 2, stages: Callable[[], Sequence[nn.Module]] = dense, **options: Any
) -> Sluice:
    return Sluice(stages, {name: HEADS[stages]() for name in NAMES[:tasks]}, **options)


def random(*shape: int, purpose: str = "numbers") -> Tensor:
    return torch.randn(*shape, generator=generator(0, purpose))


def inputs(stages: Callable[[], Sequence[nn.Module]] = dense) -> Tensor:
    return random(7, 5) if stages is dense else random(3, 2, 4, 4)


def unit(model: Sluice, place: int) -> Weights:
    found = model.units[place]
    assert isinstance(found, Weights)
    return found


def randomised(model: Sluice) -> Sluice:
    alpha = [random(*own.shape, purpose=f"alpha {n}") for n, own in enumerate(model.alpha)]
    model.set_sharing(alpha, random(*model.beta.shape, purpose="beta"), free=True)
    return model


def by_loop(model: Sluice, x: Tensor) -> dict[str, Tensor]:
    """The same network task by task, subspace by subspace and unit by unit of each, with sums."""
    names, parts = list(model.heads), model.subspaces
    features = dict.fromkeys(names, x)
    outputs = {name: [] for name in names}
    for place, alpha in enumerate(model.alpha):
        computed = {
            name: model.get_submodule(f"columns.{name}.{place}")(features[name]) for name in names
        }
        size = computed[names[0]].shape[1] // parts
        for taker, name in enumerate(names):
            mine = []
            for part in range(parts):
                for number in range(size):
                    total = torch.zeros_like(computed[name][:, 0])
                    for giver, other in enumerate(names):
                        for source in range(parts):
                            weight = alpha[taker * parts + part, giver * parts + source]
                            total = total + weight * computed[other][:, source * size + number]
                    mine.append(total)
            features[name] = torch.stack(mine, 1)
            outputs[name].append(features[name])
    predictions = {}
    for number, name in enumerate(names):
        mixture = torch.zeros_like(outputs[name][0])
        for place, own in enumerate(outputs[name]):
            mixture = mixture + model.beta[number, place] * own
        predictions[name] = model.heads[name](mixture)
    return predictions


# The equations ------------------------------------------------------------------------------------


@pytest.mark.parametrize("subspaces", [1, 2, 3])
@pytest.mark.parametrize("stages", [dense, convolutional])
@pytest.mark.parametrize("tasks", [2, 3, 6])
def test_the_network_is_the_loop_over_tasks_subspaces_and_units(tasks, stages, subspaces):
    model = randomised(network(tasks, stages, subspaces=subspaces))
    x = inputs(stages)
    found, looped = model(x), by_loop(model, x)
    assert list(found) == list(NAMES[:tasks])
    for name, prediction in found.items():
        torch.testing.assert_close(prediction, looped[name], rtol=1e-12, atol=1e-12)
    parameters = list(model.parameters())
    gradients = [
        torch.autograd.grad(torch.stack(list(made.values())).square().sum(), parameters)
        for made in (found, looped)
    ]
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-10, atol=1e-10)


@given(st.integers(1, 4), st.sampled_from([1, 2, 4]), st.integers(0, 100))
def test_the_identity_changes_nothing_at_all(columns, subspaces, seed):
    drawn = torch.randn(columns, 3, 4, generator=generator(seed, "features"))
    features = list(drawn.unbind())
    identity = torch.eye(columns * subspaces)
    for own, mixed in zip(features, mix_subspaces(identity, features, subspaces), strict=True):
        assert torch.equal(own, mixed)


def test_subspaces_lie_on_the_axis_that_is_named():
    """Sequences of features: (examples, tokens, units)."""
    features = [random(2, 5, 4, purpose=name) for name in "ab"]
    alpha = random(4, 4, purpose="alpha")
    mixed = mix_subspaces(alpha, features, 2, axis=-1)
    flat = mix_subspaces(alpha, [own.flatten(0, 1) for own in features], 2)
    for own, expected in zip(mixed, flat, strict=True):
        exactly(own.flatten(0, 1), expected)


def test_sequences_go_through_the_network():
    heads = {name: nn.Linear(4, 2) for name in NAMES[:2]}
    model = Sluice(lambda: [nn.Linear(4, 4), nn.Linear(4, 4)], heads, axis=-1)
    x = random(2, 5, 4)
    alone = model(x[:, 3])["chunk"]
    exactly(model(x)["chunk"][:, 3], alone)


@pytest.mark.parametrize("subspaces", [1, 2, 3])
@pytest.mark.parametrize("tasks", [2, 3])
def test_it_starts_from_mixtures_whose_weights_sum_to_one(tasks, subspaces):
    model = network(tasks, subspaces=subspaces, same=0.8, last=0.7)
    for alpha in model.alpha:
        exactly(alpha.sum(1), torch.ones(tasks * subspaces))
        exactly(alpha.diagonal(), torch.full((tasks * subspaces,), 0.8))
    exactly(model.beta.sum(1), torch.ones(tasks))
    exactly(model.beta[:, -1], torch.full((tasks,), 0.7))


def test_the_papers_balanced_start():
    model = network(same=1 / 4)
    for alpha in model.alpha:
        exactly(alpha, torch.full((4, 4), 1 / 4))


def test_a_single_layer_needs_no_beta():
    model = Sluice(lambda: [nn.Linear(5, 6)], {name: nn.Linear(6, 2) for name in NAMES[:2]})
    assert model.beta.tolist() == [[1.0], [1.0]]


# The penalty --------------------------------------------------------------------------------------


def penalty_by_loop(model: Sluice) -> Tensor:
    """Squared cosines between the rows of two halves of each layer's weights, one by one."""
    total = torch.tensor(0.0)
    for column in model.columns.values():
        for stage in column.children():
            weight = stage.get_parameter("0.weight").flatten(1)
            half = len(weight) // 2
            for first in weight[:half]:
                for second in weight[half:]:
                    total = total + ((first @ second) / (first.norm() * second.norm())) ** 2
    return total


@pytest.mark.parametrize("stages", [dense, convolutional])
@pytest.mark.parametrize("tasks", [2, 3])
def test_the_penalty_is_the_sum_of_squared_cosines(tasks, stages):
    model = network(tasks, stages)
    torch.testing.assert_close(model.orthogonality(), penalty_by_loop(model), rtol=1e-12, atol=0)


def test_of_activations_it_is_the_sum_of_squared_correlations():
    features = random(50, 6)
    features[:, 4] += features[:, 1]
    between = torch.corrcoef(features.T)[:3, 3:]
    found = orthogonality(features - features.mean(0), 2)
    torch.testing.assert_close(found, between.square().sum(), rtol=1e-12, atol=0)


def test_three_subspaces_are_three_pairs():
    matrix = random(20, 6)
    pairs = [(0, 1), (0, 2), (1, 2)]
    two = [matrix[:, 2 * a : 2 * a + 2] for a in range(3)]
    expected = sum(orthogonality(torch.cat([two[a], two[b]], 1), 2) for a, b in pairs)
    torch.testing.assert_close(orthogonality(matrix, 3), expected, rtol=1e-12, atol=0)


def test_the_penalty_is_zero_for_orthogonal_subspaces_and_has_no_scale():
    assert float(orthogonality(torch.eye(4), 2)) == 0.0
    matrix = random(9, 4)
    scaled = matrix * torch.tensor([1e-3, 1.0, 10.0, 1e3])
    torch.testing.assert_close(orthogonality(scaled, 2), orthogonality(matrix, 2))
    assert float(orthogonality(torch.ones(3, 4), 1)) == 0.0


def test_the_penaltys_gradient_is_that_of_finite_differences():
    assert torch.autograd.gradcheck(
        lambda matrix: orthogonality(matrix, 2), random(5, 6).requires_grad_()
    )


def test_a_silent_unit_costs_nothing_and_has_a_gradient():
    matrix = random(5, 4)
    matrix[:, 2] = 0.0
    matrix.requires_grad_()
    found = orthogonality(matrix, 2)
    found.backward()
    assert torch.isfinite(found)
    assert matrix.grad is not None
    assert torch.isfinite(matrix.grad).all()


def test_as_a_regulariser_it_drives_the_subspaces_apart():
    task = Task.regression
    data = MultiTaskData.multi_label(
        [task("chunk"), task("pos")],
        random(60, 5),
        {name: random(60, 1, purpose=name) for name in NAMES[:2]},
    )

    def build(_data: MultiTaskData, _seed: int) -> Sluice:
        return Sluice(dense, {name: nn.Linear(6, 1) for name in NAMES[:2]})

    found = []
    for weight in (0.0, 10.0):
        settings = Settings(
            steps=60, learning_rate=0.01, regulariser=Orthogonality(weight), stopping=None
        )
        model = fit(build, data, seeds=[0], settings=settings).model(0)
        assert isinstance(model, Sluice)
        found.append(float(model.orthogonality().detach()))
    assert found[1] < 0.1 * found[0]


# What is held -------------------------------------------------------------------------------------


def test_held_entries_stay_and_the_others_learn():
    """Under weight decay, too, which would shrink a parameter without a gradient."""
    model = randomised(network())
    alpha, beta = [own.detach().clone() for own in model.alpha], model.beta.detach().clone()
    free = torch.eye(4, dtype=torch.bool)
    unit(model, 0).set(alpha[0], free)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(3):
        optimiser.zero_grad()
        torch.stack(list(model(inputs()).values())).square().sum().backward()
        optimiser.step()
    assert torch.equal(model.alpha[0][~free], alpha[0][~free])
    assert (model.alpha[0][free] != alpha[0][free]).all()
    assert (model.alpha[1] != alpha[1]).all()
    assert (model.beta != beta).all()


def test_what_is_held_survives_a_state_dict():
    model, other = randomised(network()), network()
    unit(model, 1).set(torch.eye(4), free=False)
    other.load_state_dict(model.state_dict())
    x = inputs()
    for name, prediction in model(x).items():
        assert torch.equal(prediction, other(x)[name])
    assert not unit(other, 1).free.any()


def test_alpha_and_beta_learn_at_their_own_rate_and_without_weight_decay():
    """In a wrapper, and beside tasks that are called as the parts are."""
    heads = {"units": nn.Linear(6, 2), "layers": nn.Linear(6, 2)}
    wrapper = nn.ModuleDict({"model": Sluice(dense, heads)})
    others, weightings = parameter_groups(wrapper.named_parameters(), 0.1, 10.0)
    assert [name for name, _ in weightings["params"]] == [
        *[f"model.units.{number}.values" for number in range(3)],
        "model.layers.values",
    ]
    assert weightings["lr"] == pytest.approx(1.0)
    assert weightings["weight_decay"] == 0.0
    assert len(others["params"]) == len(list(wrapper.parameters())) - 4
    torch.optim.AdamW(parameter_groups(wrapper.named_parameters(), 0.1, 10.0))


def test_replicas_all_at_once_equal_one_after_another():
    """As in `fit`: predictions, penalty and gradients of all seeds by one call."""
    models = [randomised(network(3)) for _ in range(3)]
    for number, model in enumerate(models):
        unit(model, 0).set(random(6, 6, purpose=str(number)), torch.eye(6, dtype=torch.bool))
    parameters, buffers = stack_module_state(models)
    x = random(3, 7, 5)

    def loss(own: dict[str, Tensor], held: dict[str, Tensor], rows: Tensor) -> Tensor:
        predicted = functional_call(models[0], (own, held), (rows,))
        return torch.stack(list(predicted.values())).square().sum()

    def penalty(own: dict[str, Tensor]) -> Tensor:
        return orthogonality(own["columns.chunk.1.0.weight"].T, 2)

    together = vmap(grad(loss))(parameters, buffers, x)
    penalties = vmap(penalty)(parameters)
    for number, model in enumerate(models):
        alone = grad(loss)(dict(model.named_parameters()), dict(model.named_buffers()), x[number])
        for name, expected in alone.items():
            torch.testing.assert_close(together[name][number], expected, rtol=1e-10, atol=1e-11)
        exactly(penalties[number], penalty(dict(model.named_parameters())))


# What is refused ----------------------------------------------------------------------------------


def test_a_single_task_or_no_subspace_is_refused():
    with pytest.raises(UsageError, match="at least two tasks"):
        network(1)
    with pytest.raises(UsageError, match="at least one subspace"):
        network(subspaces=0)
    with pytest.raises(UsageError, match="at least one stage"):
        Sluice(list, {name: nn.Identity() for name in NAMES[:2]})


def test_units_that_do_not_divide_are_refused():
    with pytest.raises(UsageError, match="6 units do not divide into 4 equal subspaces"):
        network(subspaces=4)(inputs())
    with pytest.raises(UsageError, match="5 units do not divide"):
        orthogonality(random(3, 5), 2)


def test_stages_of_unequal_shape_are_refused():
    heads = {name: nn.Identity() for name in NAMES[:2]}
    uneven = Sluice(lambda: [nn.Linear(5, 6), nn.Linear(6, 4)], heads)
    with pytest.raises(UsageError, match="stages compute features of different shapes"):
        uneven(inputs())
    widths = iter([4, 6])
    apart = Sluice(lambda: [nn.Linear(5, next(widths))], heads)
    with pytest.raises(UsageError, match="columns compute features of different shapes"):
        apart(inputs())


def test_weights_of_a_wrong_shape_are_refused():
    model = network()
    with pytest.raises(UsageError, match="2 α for 3 stages"):
        model.set_sharing([torch.eye(4)] * 2, model.beta)
    with pytest.raises(UsageError, match=r"shape \(2, 2\), and the model's have \(4, 4\)"):
        model.set_sharing([torch.eye(2)] * 3, model.beta)


def test_a_stage_without_weights_has_no_penalty():
    model = Sluice(lambda: [nn.Tanh()], {name: nn.Identity() for name in NAMES[:2]})
    with pytest.raises(UsageError, match="no matrix of weights"):
        model.orthogonality()


def test_the_penalty_of_another_model_is_refused():
    with pytest.raises(UsageError, match="A Linear has no subspaces"):
        Orthogonality(0.1)(nn.Linear(2, 2))


def test_groups_of_another_model_are_refused():
    with pytest.raises(UsageError, match="no α or β"):
        parameter_groups(nn.Linear(2, 2).named_parameters(), 0.1, 1.0)
