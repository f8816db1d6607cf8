from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.utils.flop_counter import FlopCounterMode

from mtlbook.architectures.low_supervision import LowSupervision
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.layers.recurrent import LSTM
from mtlbook.layers.tagging import Masked, TagHead, Words
from mtlbook.layers.window import Window
from mtlbook.metrics import IGNORED
from mtlbook.randomness import generator
from mtlbook.sharing.hard import HardSharing
from mtlbook.tasks import Task
from mtlbook.training.fit import fit
from mtlbook.training.results import Fit
from mtlbook.training.sampling import RandomTask
from mtlbook.training.settings import Settings
from tests.equal import exactly

pytestmark = pytest.mark.usefixtures("double")

NAMES = ("parts", "chunks", "names", "roles", "heads", "topics")


def dense() -> list[nn.Module]:
    return [nn.Sequential(nn.Linear(5, 4), nn.Tanh()), *(_layer() for _ in range(2))]


def _layer() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh())


def windows() -> list[nn.Module]:
    first = nn.Sequential(Words(9, 3), Masked(Window(3, 4)))
    return [first, Masked(Window(4, 4)), Masked(Window(4, 4))]


def recurrent() -> list[nn.Module]:
    first = nn.Sequential(Words(9, 3), Masked(LSTM(3, 2)))
    return [first, Masked(LSTM(4, 2)), Masked(LSTM(4, 2))]


def inputs(stages: Callable[[], list[nn.Module]], rows: int = 6) -> Any:
    if stages is dense:
        return torch.randn(rows, 5, generator=generator(0, "inputs"))
    tokens = torch.randint(1, 9, (rows, 7, 2), generator=generator(0, "tokens"))
    lengths = torch.arange(rows)[:, None] % 5 + 3
    return {"tokens": tokens, "mask": torch.arange(7) < lengths}


def network(
    at: Mapping[str, int], stages: Callable[[], list[nn.Module]] = dense, tasks: int = 2
) -> LowSupervision:
    head = nn.Linear if stages is dense else TagHead
    return LowSupervision(stages, {name: head(4, 3) for name in NAMES[:tasks]}, at=at)


def gradients(loss: Tensor, module: nn.Module) -> list[Tensor]:
    return list(
        torch.autograd.grad(
            loss, list(module.parameters()), retain_graph=True, materialize_grads=True
        )
    )


def by_loop(model: LowSupervision, x: Any) -> dict[str, Tensor]:
    """Each task on its own from the input on, through as many layers as it has."""
    predictions = {}
    for name in model.heads:
        features = x
        for place in range(model.at[name]):
            features = model.layers[place](features)
        predictions[name] = model.heads[name](features)
    return predictions


STAGES = [dense, windows, recurrent]


@pytest.mark.parametrize("stages", STAGES)
@pytest.mark.parametrize("tasks", [2, 6])
def test_the_network_is_the_loop_over_tasks(tasks, stages):
    layers = dict(zip(NAMES, [1, 3, 2, 3, 1, 2], strict=True))
    model = network({name: layers[name] for name in NAMES[:tasks]}, stages, tasks)
    x = inputs(stages)
    found, looped = model(x), by_loop(model, x)
    assert list(found) == list(NAMES[:tasks])
    for name, prediction in found.items():
        exactly(prediction, looped[name])
    both = [torch.stack(list(own.values())).square().sum() for own in (found, looped)]
    for first, second in zip(*(gradients(loss, model) for loss in both), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-11, atol=1e-12)


# Limiting cases -----------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [{}, {"parts": 3, "chunks": 3}])
def test_with_all_tasks_at_the_last_layer_it_is_hard_sharing(at):
    model = network(at)
    shared = HardSharing(dense, {name: nn.Linear(4, 3) for name in NAMES[:2]})
    shared.trunk.load_state_dict(model.layers.state_dict())
    shared.heads.load_state_dict(model.heads.state_dict())
    x = inputs(dense)
    found, expected = model(x), shared(x)
    for name in NAMES[:2]:
        exactly(found[name], expected[name])
        own, other = (gradients(made[name].square().sum(), net)
                      for made, net in ((found, model), (expected, shared)))  # fmt: skip
        for first, second in zip(own, other, strict=True):
            exactly(first, second)


@pytest.mark.parametrize("stages", STAGES)
@pytest.mark.parametrize("place", [1, 2, 3])
def test_the_gradient_above_a_tasks_layer_is_exactly_0(stages, place):
    model = network({"parts": place}, stages)
    loss = model(inputs(stages))["parts"].square().sum()
    for number, layer in enumerate(model.layers, start=1):
        received = [bool(own.any()) for own in gradients(loss, layer)]
        assert all(received) if number <= place else not any(received)
    assert not any(bool(own.any()) for own in gradients(loss, model.heads["chunks"]))


@pytest.mark.parametrize("stages", STAGES)
@pytest.mark.parametrize("place", [1, 2, 3])
def test_without_the_low_task_it_is_the_single_task_network(stages, place):
    """The other head changes neither the prediction nor the gradient of the main task."""
    model = network({"parts": place}, stages)
    single = LowSupervision(stages, {"chunks": (nn.Linear if stages is dense else TagHead)(4, 3)})
    single.layers.load_state_dict(model.layers.state_dict())
    single.heads.load_state_dict(
        {k: v for k, v in model.heads.state_dict().items() if k.startswith("chunks")}
    )
    x = inputs(stages)
    sequential = nn.Sequential(*single.layers, single.heads["chunks"])
    found, alone = model(x)["chunks"], sequential(x)
    exactly(found, alone)
    exactly(single(x)["chunks"], alone)
    mine, own = (gradients(made.square().sum(), net.layers)
                 for made, net in ((found, model), (alone, single)))  # fmt: skip
    for first, second in zip(mine, own, strict=True):
        exactly(first, second)


def test_supervised_picks_the_layers_features():
    """ŷ_t = head_t(Σ_l β_tl h^l): a sluice network with one-hot β."""
    model = network({"parts": 2, "names": 1}, tasks=3)
    x = inputs(dense)
    first = model.layers[0](x)
    second = model.layers[1](first)
    states = torch.stack([first, second, model.layers[2](second)])
    mixed = torch.einsum("tl,lnc->tnc", model.supervised, states)
    for own, (name, head) in zip(mixed, model.heads.items(), strict=True):
        exactly(model(x)[name], head(own))
    assert not any("supervised" in name for name in model.state_dict())


@pytest.mark.parametrize(("tasks", "at"), [(2, 1), (2, 3), (6, 1), (6, 3)])
def test_a_low_task_costs_its_head_and_no_layer(tasks, at):
    model, rows = network(dict.fromkeys(NAMES[: tasks - 1], at), tasks=tasks), 6
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(inputs(dense))
    assert counter.get_total_flops() == 2 * rows * (5 * 4 + 2 * 4 * 4 + tasks * 4 * 3)


@pytest.mark.parametrize("place", [1, 2, 3])
def test_a_prediction_sees_2l_plus_1_words(place):
    model = network({"parts": place}, windows)
    words = inputs(windows, 1)["tokens"].clone()
    mask = torch.ones(1, 7, dtype=torch.bool)
    before = model({"tokens": words, "mask": mask})["parts"]
    for changed in range(7):
        other = words.clone()
        other[0, changed, 0] = words[0, changed, 0] % 8 + 1
        after = model({"tokens": other, "mask": mask})["parts"]
        moved = (after != before).any(1)[0]
        assert moved.tolist() == [abs(changed - n) <= place for n in range(7)]


# Training -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stages", STAGES)
def test_replicas_all_at_once_equal_one_after_another(stages):
    models = [network({"parts": 1}, stages) for _ in range(3)]
    parameters, buffers = stack_module_state(models)
    x = inputs(stages)

    def loss(own: dict[str, Tensor], kept: dict[str, Tensor]) -> Tensor:
        predicted = functional_call(models[0], (own, kept), (x,))
        return torch.stack(list(predicted.values())).square().sum()

    together = vmap(grad(loss))(parameters, buffers)
    for number, model in enumerate(models):
        alone = grad(loss)(dict(model.named_parameters()), dict(model.named_buffers()))
        for name, expected in alone.items():
            torch.testing.assert_close(together[name][number], expected, rtol=1e-11, atol=1e-12)


def test_a_step_on_the_low_task_leaves_the_layers_above_as_they_were():
    """The paper's training, plain descent on one task at a time, through `fit`."""
    x = inputs(windows, 30)
    tags = (x["tokens"][..., 0] % 3).where(x["mask"], IGNORED)
    tasks = [Task.tagging(name, 3) for name in NAMES[:2]]
    data = MultiTaskData.multi_label(tasks, x, dict.fromkeys(NAMES[:2], tags))
    seeds = range(8)

    def after_one_step(rate: float) -> Fit:
        settings = Settings(
            split=Holdout(train=20, validation=4, test=6),
            steps=1,
            sampler=RandomTask(1),
            optimiser=partial(torch.optim.SGD, lr=rate),
            stopping=None,
            device="cpu",
        )
        build = lambda data, seed: network({"parts": 1}, windows)  # noqa: E731
        return fit(build, data, seeds=seeds, settings=settings)

    before, after = (after_one_step(rate) for rate in (0.0, 0.1))
    moved = set()
    for seed in seeds:
        pairs = zip(
            after.model(seed).get_submodule("layers").named_parameters(),
            before.model(seed).get_submodule("layers").parameters(),
            strict=True,
        )
        changed: dict[str, list[bool]] = {}
        for (name, new), old in pairs:
            changed.setdefault(name[0], []).append(not torch.equal(new, old))
        assert any(changed["0"])
        assert set(changed["1"]) == set(changed["2"])
        moved |= set(changed["2"])
    assert moved == {True, False}


def test_state_dicts_are_ordinary():
    model = network({"parts": 1}, windows)
    copy = network({"parts": 1}, windows)
    copy.load_state_dict(model.state_dict())
    x = inputs(windows)
    for name, prediction in model(x).items():
        exactly(copy(x)[name], prediction)


# What is refused ----------------------------------------------------------------------------------


def test_a_layer_that_is_not_there_is_refused():
    for number in (0, 4, -1):
        with pytest.raises(UsageError, match=f"layer {number} of 3: layers count from 1"):
            network({"parts": number})


def test_a_task_without_a_head_is_refused():
    with pytest.raises(UsageError, match=r"'topics', which has no head: the heads are \['parts'"):
        network({"topics": 1})


def test_layers_that_nobody_trains_are_refused():
    with pytest.raises(UsageError, match="above layer 2, so that the stages above"):
        network({"parts": 1, "chunks": 2})


def test_stages_that_are_no_function_and_stacks_of_nothing_are_refused():
    heads: dict[str, nn.Module] = {"parts": nn.Linear(4, 3)}
    with pytest.raises(UsageError, match="a function that makes new layers"):
        LowSupervision(nn.Sequential(*dense()), heads)
    with pytest.raises(UsageError, match="at least one stage"):
        LowSupervision(list, heads)
    with pytest.raises(UsageError, match="at least one head"):
        LowSupervision(dense, {})
