"""Networks and penalties outside of this package's training: in loops that users have already."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.multiprocessing.spawn import spawn
from torch.nn.functional import cross_entropy, mse_loss
from torch.nn.parallel import DistributedDataParallel

from mtlbook.architectures.cross_stitch import CrossStitch
from mtlbook.auxiliary.adversarial import AdversarialSharing, GradientReversal
from mtlbook.layers.dropout import reproducible
from mtlbook.layers.schedule import advance
from mtlbook.sharing.hard import HardSharing, separate_networks
from mtlbook.sharing.soft import SquaredDistance

ROWS, STEPS = 16, 5


def stages() -> list[nn.Module]:
    return [nn.Sequential(nn.Linear(6, 8), nn.Tanh()), nn.Linear(8, 4)]


def heads() -> dict[str, nn.Module]:
    return {"price": nn.Linear(4, 1), "kind": nn.Linear(4, 3)}


def hard() -> nn.Module:
    return HardSharing(stages, heads(), branch_at=1)


def soft() -> nn.Module:
    return separate_networks(stages, heads(), same_start=True)


def cross_stitch() -> nn.Module:
    return CrossStitch(stages, heads(), channels=(8, 4))


def adversarial() -> nn.Module:
    price, kind = heads().items()
    return AdversarialSharing(
        stages, dict([price]), adversaries=dict([kind]), reversal=GradientReversal(schedule=None)
    )


NETWORKS = [hard, soft, cross_stitch, adversarial]


def batch() -> tuple[Tensor, dict[str, Tensor]]:
    source = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, 6, generator=source)
    return x, {"price": x[:, :1].sin(), "kind": torch.randint(3, (ROWS,), generator=source)}


def loss(predicted: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
    price = mse_loss(predicted["price"], targets["price"])
    return price + cross_entropy(predicted["kind"], targets["kind"])


def penalty(model: nn.Module) -> Tensor:
    """Soft sharing where there are networks to tie."""
    return SquaredDistance(0.1)(model) if hasattr(model, "branches") else torch.zeros(())


def half(number: int) -> tuple[Tensor, dict[str, Tensor]]:
    x, targets = batch()
    rows = slice(number * ROWS // 2, (number + 1) * ROWS // 2)
    return x[rows], {name: own[rows] for name, own in targets.items()}


def made(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    model = build()
    advance(model, 0.5)
    return model


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == dict(model.named_parameters()).keys()
    return found


def reference(build: Callable[[], nn.Module], steps: int = STEPS) -> nn.Module:
    """Trained by plain SGD on the whole batch, in one process and in float32."""
    model, (x, targets) = made(build), batch()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimiser.zero_grad()
        (loss(model(x), targets) + penalty(model)).backward()
        optimiser.step()
    return model


# Autocast and accumulation ------------------------------------------------------------------------


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("build", NETWORKS)
def test_gradients_accumulate_under_autocast(build, bfloat16):
    """Two half batches, each in bfloat16, against the whole batch in float32."""
    expected, model = gradients(reference(build, steps=1)), made(build)
    for number in range(2):
        x, targets = half(number)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            predicted = model(x)
            part = loss(predicted, targets) / 2
        (part + penalty(model) / 2).backward()
        assert predicted["price"].dtype == (torch.bfloat16 if bfloat16 else torch.float32)
    # bfloat16 has 8 significant bits.
    tolerance = 2.0**-6 if bfloat16 else 1e-6
    for name, gradient in gradients(model).items():
        assert gradient.dtype == torch.float32
        error = (gradient - expected[name]).norm()
        assert error <= tolerance * (gradient.norm() + 0.1)


def test_dropout_masks_and_schedules_do_not_change_while_gradients_accumulate():
    model = reproducible(nn.Sequential(nn.Dropout(0.5), GradientReversal()), seed=0)
    advance(model, 0.1)
    x = torch.ones(100, requires_grad=True)
    first, second = (torch.autograd.grad(model(x).sum(), x)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert first.any()


# torch.compile ------------------------------------------------------------------------------------


def compile_and_compare(rank: int, backend: str, builds: list[Callable[[], nn.Module]]) -> None:
    """The networks in one graph: with dropout, a schedule and a penalty on the parameters."""
    torch.set_num_threads(1)
    # A pool of compilers takes longer to start than one takes for these few kernels.
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    models = nn.ModuleList(
        nn.Sequential(GradientReversal(), nn.Dropout(0.3), made(build)) for build in builds
    )
    reproducible(models, seed=0)
    x, targets = batch()

    def objective() -> Tensor:
        return torch.stack(
            [loss(model(x), targets) + penalty(model.get_submodule("2")) for model in models]
        ).sum()

    compiled = torch.compile(objective, backend=backend, fullgraph=True)
    for progress, stance in ((0.1, "default"), (0.7, "fail_on_recompile")):
        # What changes between steps is data of the graph, which compiles nothing anew.
        advance(models, progress)
        found = []
        for function in (objective, compiled):
            models.zero_grad()
            with torch.compiler.set_stance(stance):
                value = function()
            value.backward()
            found.append((value, gradients(models)))
        torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("backend", "builds"),
    [
        ("aot_eager", NETWORKS),
        pytest.param(
            "inductor",
            [cross_stitch],  # One is enough for a minute of compilation.
            marks=pytest.mark.skipif(
                shutil.which("g++") is None, reason="needs a C++ compiler to compile for the CPU"
            ),
        ),
    ],
)
def test_compiled_networks_compute_the_same(backend, builds):
    """In a process of its own: the tests' checks of shapes at run time cannot be compiled."""
    spawn(compile_and_compare, args=(backend, builds))


# DistributedDataParallel --------------------------------------------------------------------------


def train_in_parallel(rank: int, folder: str) -> None:
    """One of two processes, with half of each batch."""
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    for build in NETWORKS:
        model = DistributedDataParallel(made(build))
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        x, targets = half(rank)
        for _ in range(STEPS):
            optimiser.zero_grad()
            (loss(model(x), targets) + penalty(model.module)).backward()
            optimiser.step()
        if rank == 0:
            torch.save(model.module.state_dict(), Path(folder) / f"{build.__name__}.pt")
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_gloo_available(), reason="needs PyTorch's gloo")
def test_two_processes_train_as_one_with_the_whole_batch(tmp_path):
    spawn(train_in_parallel, args=(str(tmp_path),), nprocs=2)
    for build in NETWORKS:
        found = torch.load(tmp_path / f"{build.__name__}.pt")
        torch.testing.assert_close(found, reference(build).state_dict(), rtol=1e-5, atol=1e-6)


# State dicts --------------------------------------------------------------------------------------


def stages_of_price(model: nn.Module) -> nn.Sequential:
    """The stages that lead to one task's head, the model's own modules."""
    if isinstance(model, CrossStitch):
        return nn.Sequential(*model.columns["price"].children())
    branch = model.get_submodule("branches.price")
    return nn.Sequential(*model.get_submodule("trunk").children(), *branch.children())


def alike(model: nn.Module, users: nn.Module) -> bool:
    x, _ = batch()
    return torch.allclose(model(x)["price"], users(x))


@pytest.mark.parametrize("build", [hard, soft, cross_stitch])
def test_weights_go_from_and_to_a_network_of_the_users(build):
    """A plain network for a single task, whose stages and head have state dicts of their own."""
    trunk, head = nn.Sequential(*stages()), nn.Linear(4, 1)
    users, model = nn.Sequential(trunk, head), made(build)
    if isinstance(model, CrossStitch):
        # Without mixing, the column is the network.
        for alpha in model.mixing:
            alpha.requires_grad_(False).copy_(torch.eye(2).unsqueeze(-1))
    own_head = model.get_submodule("heads.price")
    stages_of_price(model).load_state_dict(trunk.state_dict())
    own_head.load_state_dict(head.state_dict())
    assert alike(model, users)
    x, targets = batch()
    loss(model(x), targets).backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1).step()
    assert not alike(model, users)
    trunk.load_state_dict(stages_of_price(model).state_dict())
    head.load_state_dict(own_head.state_dict())
    assert alike(model, users)


@pytest.mark.parametrize("build", NETWORKS)
def test_a_state_dict_restores_the_whole_network(build):
    trained, fresh = reference(build), build()
    fresh.load_state_dict(trained.state_dict())
    x, _ = batch()
    assert all(torch.equal(fresh(x)[name], own) for name, own in trained(x).items())


@pytest.mark.parametrize("build", NETWORKS)
def test_frozen_stages_stay_as_they_are(build):
    model = made(build)
    part = {soft: "branches.price", cross_stitch: "columns.price"}.get(build, "trunk")
    frozen = model.get_submodule(part).requires_grad_(False)
    before = {name: values.clone() for name, values in model.state_dict().items()}
    x, targets = batch()
    (loss(model(x), targets) + penalty(model)).backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1).step()
    fixed = {id(parameter) for parameter in frozen.parameters()}
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == (id(parameter) in fixed), name
