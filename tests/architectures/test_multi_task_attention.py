"""Masks on a shared trunk: hard sharing where they are 1, and a loop with every sum written out."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from mtlbook.architectures.multi_task_attention import MultiTaskAttention
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.sharing.hard import HardSharing
from tests.equal import exactly

NAMES = tuple("abcdef")

pytestmark = pytest.mark.usefixtures("double")


def dense() -> list[nn.Module]:
    widths = (5, 6, 4, 7, 3)
    return [nn.Sequential(nn.Linear(i, o), nn.Tanh()) for i, o in pairwise(widths)]


def convolutional() -> list[nn.Module]:
    return [
        nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(6, 4, 3, padding=1), nn.Tanh()),
        nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(4, 7, 3, padding=1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(7, 3, 3, padding=1), nn.Tanh()),
    ]


def network(
    tasks: int = 2,
    stages: Callable[[], Sequence[nn.Module]] = dense,
    **options: Any,
) -> MultiTaskAttention:
    layer = nn.Linear if stages is dense else partial(nn.Conv2d, kernel_size=1)
    heads = {name: layer(3, 2) for name in NAMES[:tasks]}
    channels = options.pop("channels", (6, 4, 7, 3))
    model = MultiTaskAttention(stages, heads, channels=channels, **options)
    # Layer normalisation starts as ones and zeros, which would hide a scale that is not used.
    with torch.no_grad():
        for place, values in enumerate(model.attention.parameters()):
            values.copy_(random(*values.shape, purpose=str(place)))
    return model


def random(*shape: int, purpose: str = "numbers") -> Tensor:
    return torch.randn(*shape, generator=generator(0, purpose))


def inputs(stages: Callable[[], Sequence[nn.Module]]) -> Tensor:
    return random(7, 5) if stages is dense else random(3, 2, 6, 6)


def open_masks(model: MultiTaskAttention, value: float = 40.0) -> None:
    """Masks of exactly σ(40) = 1 in float64, or σ(−800) = 0, whatever they read."""
    with torch.no_grad():
        for of_task in model.attention.values():
            for mask in of_task.children():
                norm: Any = mask.get_submodule("4")
                norm.weight.zero_()
                norm.bias.fill_(value)


def normalised(values: list[Tensor], norm: Any) -> list[Tensor]:
    mean = torch.stack(values).sum(0) / len(values)
    variance = torch.stack([(own - mean) ** 2 for own in values]).sum(0) / len(values)
    return [
        weight * (own - mean) / (variance + norm.eps).sqrt() + bias
        for own, weight, bias in zip(values, norm.weight, norm.bias, strict=True)
    ]


def pointwise(values: list[Tensor], layer: Any) -> list[Tensor]:
    return [
        torch.stack([w * v for w, v in zip(row, values, strict=True)]).sum(0) + bias
        for row, bias in zip(layer.weight, layer.bias, strict=True)
    ]


def by_loop(model: MultiTaskAttention, x: Tensor, block: int) -> dict[str, Tensor]:
    """Equations 1 and 2 task by task, block by block, channel by channel."""
    found = {}
    attended: Tensor | None
    for name, masks in model.attention.items():
        features, attended = x, None
        for place, mask in enumerate(masks.children()):
            stages = list(model.trunk)[place * block : (place + 1) * block]
            u = features = stages[0](features)
            for stage in stages[1:]:
                features = stage(features)
            read = list(u.unbind(1))
            if attended is not None:
                read += model.readers[place - 1](attended).unbind(1)
            g, norm_g, _, h, norm_h, _ = mask.children()
            hidden = [own.clamp(min=0) for own in normalised(pointwise(read, g), norm_g)]
            gate = normalised(pointwise(hidden, h), norm_h)
            attended = torch.stack(
                [p / (1 + (-a).exp()) for a, p in zip(gate, features.unbind(1), strict=True)], 1
            )
        assert attended is not None
        found[name] = model.heads[name](attended)
    return found


@pytest.mark.parametrize("block", [1, 2, 4])
@pytest.mark.parametrize("tasks", [2, 6])
def test_dense_masks_are_the_loop(tasks, block):
    model = network(tasks, block=block)
    compare(model, inputs(dense), block)


@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize("tasks", [2, 6])
def test_convolutional_masks_are_the_loop(tasks, block):
    model = network(tasks, convolutional, block=block)
    compare(model, inputs(convolutional), block)


def compare(model: MultiTaskAttention, x: Tensor, block: int) -> None:
    found, looped = model(x), by_loop(model, x, block)
    assert list(found) == list(model.heads)
    parameters = list(model.parameters())
    # The last block is the only one without a reader behind it: every parameter has a gradient.
    gradients = [
        torch.autograd.grad(torch.stack(list(made.values())).square().sum(), parameters)
        for made in (found, looped)
    ]
    for name, prediction in found.items():
        exactly(prediction, looped[name])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize("stages", [dense, convolutional])
def test_open_masks_are_hard_sharing(stages, block):
    model = network(3, stages, block=block)
    open_masks(model)
    hard = HardSharing(stages, dict(model.heads.items()))
    hard.trunk.load_state_dict(model.trunk.state_dict())
    x = inputs(stages)
    assert all(bool((own == 1).all()) for every in model.masks(x).values() for own in every)
    for name, prediction in hard(x).items():
        exactly(model(x)[name], prediction)


def test_closed_masks_leave_the_heads_bias():
    model = network(2)
    open_masks(model, -800.0)
    for name, prediction in model(inputs(dense)).items():
        bias = model.get_parameter(f"heads.{name}.bias")
        exactly(prediction, bias.expand(7, -1))


def test_one_task_is_the_single_task_attention_network():
    """Nothing of another task's enters a prediction: each is that of its own network."""
    several = network(3)
    x = inputs(dense)
    for name in NAMES[:3]:
        alone = MultiTaskAttention(dense, {name: nn.Linear(3, 2)}, channels=(6, 4, 7, 3))
        own = {
            key: values
            for key, values in several.state_dict().items()
            if key.split(".")[0] in ("trunk", "readers") or key.split(".")[1] == name
        }
        alone.load_state_dict(own)
        exactly(alone(x)[name], several(x)[name])


def test_an_example_does_not_depend_on_the_others_of_its_batch():
    model, x = network(2, convolutional), inputs(convolutional)
    together = model(x)
    for number, own in enumerate(x):
        for name, prediction in model(own[None]).items():
            exactly(prediction[0], together[name][number])


def test_the_trunk_takes_a_trained_networks_weights():
    model, trained = network(2), nn.Sequential(*dense())
    model.trunk.load_state_dict(trained.state_dict())
    open_masks(model)
    x = inputs(dense)
    exactly(model(x)["a"], model.heads["a"](trained(x)))


@pytest.mark.parametrize("stages", [dense, convolutional])
def test_replicas_all_at_once_equal_one_after_another(stages):
    models = [network(3, stages) for _ in range(3)]
    parameters, _ = stack_module_state(models)
    x = torch.stack([(number + 1) * inputs(stages) for number in range(3)])

    def loss(own: dict[str, Tensor], rows: Tensor) -> Tensor:
        predicted = functional_call(models[0], own, (rows,))
        return torch.stack(list(predicted.values())).square().sum()

    together = vmap(grad(loss))(parameters, x)
    for number, model in enumerate(models):
        alone = grad(loss)(dict(model.named_parameters()), x[number])
        for name, expected in alone.items():
            torch.testing.assert_close(together[name][number], expected, rtol=1e-10, atol=1e-11)


def test_it_learns_in_a_plain_loop():
    model, x = network(2), inputs(dense)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = torch.stack([(own - x[:, :2]).square().mean() for own in model(x).values()]).sum()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_no_head_is_refused():
    with pytest.raises(UsageError, match="at least one"):
        network(0)


@pytest.mark.parametrize("block", [0, 3])
def test_stages_that_fill_no_block_are_refused(block):
    with pytest.raises(UsageError, match=f"no blocks of {block}"):
        network(block=block)


def test_no_stage_is_refused():
    with pytest.raises(UsageError, match="0 stages"):
        MultiTaskAttention(list, {"a": nn.Identity()}, channels=())


def test_a_wrong_number_of_channels_is_refused():
    with pytest.raises(UsageError, match="1 numbers of channels for 4 stages"):
        network(channels=(6,))
    with pytest.raises(UsageError, match="begins with 6 and ends with 4 channels"):
        network(channels=(6, 5, 7, 3))(inputs(dense))


def test_stages_that_are_made_once_are_refused():
    layers = dense()
    with pytest.raises(UsageError, match="make new layers inside of the function"):
        network(stages=lambda: layers)


def test_pooling_behind_what_the_masks_read_is_refused():
    model = MultiTaskAttention(
        lambda: [nn.Conv2d(2, 4, 3, padding=1), nn.MaxPool2d(2)],
        {"a": nn.Conv2d(4, 1, 1)},
        channels=(4, 4),
    )
    with pytest.raises(UsageError, match="pool in its first stage"):
        model(inputs(convolutional))
