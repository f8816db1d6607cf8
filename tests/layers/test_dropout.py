import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from mtlbook.errors import UsageError
from mtlbook.layers.dropout import Dropout, random_bits, reproducible
from mtlbook.layers.schedule import advance


def splitmix64(number: int) -> int:
    """The finaliser in Python's unbounded integers; its first 53 bits."""
    mask = 2**64 - 1
    number &= mask
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & mask
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & mask
    return (number ^ (number >> 31)) >> 11


def mask(layer: nn.Module, *shape: int) -> Tensor:
    return layer(torch.ones(*shape)) != 0


def agreement(first: Tensor, second: Tensor) -> float:
    return float((first == second).double().mean())


# The masks ----------------------------------------------------------------------------------------


def test_random_bits_are_those_of_splitmix64():
    numbers = [0, 1, -1, 12345, 2**62, -(2**63), 2**63 - 1]
    expected = [splitmix64(number) for number in numbers]
    assert random_bits(torch.tensor(numbers)).tolist() == expected


@pytest.mark.parametrize("probability", [0.0, 0.1, 1 / 3, 0.5, 0.999])
def test_a_mask_is_that_of_a_uniform_number_at_each_place(probability):
    """The integers compare as the uniform numbers do, exactly."""
    layer = Dropout(probability, key=12345)
    advance(layer, 0.0)
    uniform = [splitmix64(12345 + 2**40 + place) / 2**53 for place in range(500)]
    assert mask(layer, 500).tolist() == [u >= probability for u in uniform]


def test_masks_are_uniform_and_differ_between_steps_and_layers():
    drawn = random_bits(torch.arange(200_000)).double() / 2**53
    counts = torch.histc(drawn, bins=20, min=0, max=1)
    # Chi-squared with 19 degrees of freedom: 43.8 is its 0.999 quantile.
    assert float((counts - 10_000).square().sum() / 10_000) < 43.8
    torch.manual_seed(0)
    layer, other = Dropout(0.3), Dropout(0.3)
    first = mask(layer, 50_000)
    assert float((~first).double().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(layer(torch.ones(50_000)).mean()) == pytest.approx(1, abs=0.02)
    advance(layer, 0.5)
    for another in (mask(layer, 50_000), mask(other, 50_000)):
        assert agreement(first, another) == pytest.approx(0.3**2 + 0.7**2, abs=0.01)


def test_forward_passes_do_not_change_the_step():
    layer = Dropout(0.5)
    advance(layer, 0.0)
    first = mask(layer, 1000)
    assert torch.equal(mask(layer, 1000), first)
    layer.eval()
    mask(layer, 1000)
    layer.train()
    assert torch.equal(mask(layer, 1000), first)
    advance(layer, 0.1)
    assert not torch.equal(mask(layer, 1000), first)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_activation_checkpointing_meets_the_same_mask(use_reentrant):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 50), nn.Tanh(), Dropout(0.5), nn.Linear(50, 1)).double()
    advance(model, 0.0)
    x = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    parameters = [x, *model.parameters()]
    plain = torch.autograd.grad(model(x).square().sum(), parameters)
    again = checkpoint(model, x, use_reentrant=use_reentrant)
    again.square().sum().backward()
    for expected, values in zip(plain, parameters, strict=True):
        torch.testing.assert_close(values.grad, expected, rtol=0, atol=0)


def test_no_float64_is_needed():
    """MPS has none: no operation of a float32 model may make such a tensor."""
    made = set()

    class Kinds(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            made.add(getattr(out, "dtype", None))
            return out

    layer, x = Dropout(0.5), torch.ones(10, requires_grad=True)
    with Kinds():
        layer(x).sum().backward()
    assert torch.int64 in made
    assert torch.float64 not in made


def test_all_replicas_at_once_drop_what_each_drops_alone():
    models = [nn.Sequential(nn.Linear(4, 8), Dropout(0.4)).double() for _ in range(3)]
    for model in models:
        advance(model, 0.0)
    parameters, buffers = stack_module_state(models)
    x = torch.randn(3, 20, 4, dtype=torch.float64)

    def one(own: dict[str, Tensor], inputs: Tensor) -> Tensor:
        return functional_call(models[0], own, (inputs,))

    together = vmap(one)(parameters | buffers, x)
    alone = torch.stack([model(own) for model, own in zip(models, x, strict=True)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-14)
    assert not torch.equal(together[0] == 0, together[1] == 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="compares with a GPU")
def test_a_gpu_drops_the_same_places():
    layer = Dropout(0.3, key=2**61)
    advance(layer, 0.0)
    on_cpu = mask(layer, 100_000)
    assert torch.equal((layer.cuda()(torch.ones(100_000).cuda()) != 0).cpu(), on_cpu)


def test_an_impossible_probability_is_refused():
    with pytest.raises(UsageError, match="from 0 to below 1, not 1"):
        Dropout(1.0)


# The exchange -------------------------------------------------------------------------------------


def test_pytorchs_dropout_is_exchanged_at_every_depth():
    block = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    for name in ("dropout", "dropout1", "dropout2"):
        block.set_submodule(name, nn.Dropout(0.1))
    model = nn.ModuleDict({"block": block, "head": nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 1))})
    model["head"].eval()
    assert reproducible(model, seed=3) is model
    dropouts = {name: m for name, m in model.named_modules() if isinstance(m, Dropout)}
    assert {name: layer.probability for name, layer in dropouts.items()} == {
        "block.dropout": 0.1,
        "block.dropout1": 0.1,
        "block.dropout2": 0.1,
        "head.0": 0.5,
    }
    assert not any(isinstance(module, nn.Dropout) for module in model.modules())
    assert len({int(layer.key) for layer in dropouts.values()}) == 4
    assert block.dropout.training
    assert not dropouts["head.0"].training
    torch.manual_seed(0)
    advance(model, 0.0)
    x = torch.randn(2, 3, 4)
    assert torch.equal(block(x), block(x))


def test_keys_follow_from_seed_and_name_alone():
    def keys(seed: int, *layers: nn.Module) -> list[int]:
        model = reproducible(nn.Sequential(*layers), seed)
        return [int(layer.key) for layer in model.children() if isinstance(layer, Dropout)]

    torch.manual_seed(0)
    first = keys(0, nn.Dropout(), nn.Tanh(), nn.Dropout())
    torch.manual_seed(1)
    assert keys(0, nn.Dropout(), nn.Linear(2, 2), nn.Dropout()) == first
    assert not set(keys(1, nn.Dropout(), nn.Tanh(), nn.Dropout())) & set(first)


def test_a_layer_that_stands_twice_becomes_two():
    drop = nn.Dropout(0.5)
    model = reproducible(nn.Sequential(drop, nn.Identity(), drop), 0)
    first, _, second = model.children()
    advance(model, 0.0)
    assert agreement(mask(first, 10_000), mask(second, 10_000)) == pytest.approx(0.5, abs=0.05)


def test_a_model_that_is_a_dropout_layer_is_exchanged_itself():
    assert isinstance(reproducible(nn.Dropout(0.2), 0), Dropout)


@pytest.mark.parametrize(
    "layer",
    [nn.Dropout1d(), nn.Dropout2d(), nn.Dropout3d(), nn.AlphaDropout(), nn.FeatureAlphaDropout()],
    ids=lambda layer: type(layer).__name__,
)
def test_other_kinds_of_dropout_are_refused(layer):
    with pytest.raises(UsageError, match=rf"1 is a {type(layer).__name__}.*use nn\.Dropout"):
        reproducible(nn.Sequential(nn.Tanh(), layer), 0)
    layer.p = 0.0
    reproducible(nn.Sequential(nn.Tanh(), layer), 0)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_dropout_within_a_layer_is_refused(kind):
    with pytest.raises(UsageError, match=r"a MultiheadAttention that drops by 0\.1.*dropout=0"):
        reproducible(nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1), 0)
    with pytest.raises(UsageError, match=f"a {kind.__name__} that drops by 0.2"):
        reproducible(kind(4, 4, num_layers=2, dropout=0.2), 0)
    reproducible(kind(4, 4), 0)
