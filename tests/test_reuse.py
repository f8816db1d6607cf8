"""Networks, penalties and combiners outside of this package's training: in users' own loops."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.multiprocessing.spawn import spawn
from torch.nn.functional import cross_entropy, mse_loss
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from mtlbook.architectures.cross_stitch import CrossStitch
from mtlbook.architectures.deep_relationship_networks import DeepRelationshipNetwork
from mtlbook.architectures.fully_adaptive_sharing import Tree, TreeNetwork
from mtlbook.architectures.joint_many_task import JointManyTask
from mtlbook.architectures.low_supervision import LowSupervision
from mtlbook.architectures.mixture_of_experts import MixtureOfExperts
from mtlbook.architectures.multi_task_attention import MultiTaskAttention
from mtlbook.architectures.progressive_layered_extraction import ProgressiveLayeredExtraction
from mtlbook.architectures.sluice_networks import Sluice
from mtlbook.architectures.tensor_factorisation import TensorFactorisation
from mtlbook.auxiliary.adversarial import AdversarialSharing, GradientReversal
from mtlbook.balancing.backward import backward
from mtlbook.balancing.pcgrad import PCGrad
from mtlbook.balancing.task_gradients import task_gradients
from mtlbook.balancing.upgrad import UPGrad
from mtlbook.combiner import Combiner, Evidence
from mtlbook.layers.dropout import reproducible
from mtlbook.layers.schedule import advance
from mtlbook.sharing.hard import HardSharing, separate_networks
from mtlbook.sharing.soft import SquaredDistance
from mtlbook.tasks import Task
from mtlbook.weighting.uncertainty import UncertaintyWeighting

ROWS, STEPS = 16, 5
TASKS = [Task.regression("price"), Task.classification("kind", classes=3)]
Batch = tuple[Tensor, dict[str, Tensor]]


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


def equal_stages() -> list[nn.Module]:
    return [nn.Sequential(nn.Linear(width, 4), nn.Tanh()) for width in (6, 4)]


def relationships() -> nn.Module:
    return DeepRelationshipNetwork(stages, heads(), branch_at=1, tied=["branches"])


def tree() -> nn.Module:
    return TreeNetwork(stages, heads(), Tree(((0, 0), (0, 1))))


def low_supervision() -> nn.Module:
    return LowSupervision(equal_stages, heads(), at={"price": 1})


def joint_many_task() -> nn.Module:
    return JointManyTask(lambda: [nn.Identity(), nn.Linear(6, 4), nn.Linear(4 + 6, 4)], heads())


def factorised() -> nn.Module:
    return TensorFactorisation(stages, heads(), ranks=2)


def sluice() -> nn.Module:
    return Sluice(equal_stages, heads())


def mixture() -> nn.Module:
    return MixtureOfExperts(stages, heads(), inputs=6, experts=3)


def extraction() -> nn.Module:
    return ProgressiveLayeredExtraction(stages, heads(), inputs=[6, 8], own=1, shared=2)


def attention() -> nn.Module:
    return MultiTaskAttention(equal_stages, heads(), channels=[4, 4])


NETWORKS = [
    hard, soft, cross_stitch, adversarial, relationships, tree, low_supervision, joint_many_task,
    factorised, sluice, mixture, extraction, attention,
]  # fmt: skip


def batch() -> Batch:
    source = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, 6, generator=source)
    return x, {"price": x[:, :1].sin(), "kind": torch.randint(3, (ROWS,), generator=source)}


def half(number: int) -> Batch:
    x, targets = batch()
    rows = slice(number * ROWS // 2, (number + 1) * ROWS // 2)
    return x[rows], {name: own[rows] for name, own in targets.items()}


def made(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    model = build()
    advance(model, 0.5)
    return model


def losses(predicted: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> list[Tensor]:
    price = mse_loss(predicted["price"], targets["price"])
    return [price, cross_entropy(predicted["kind"], targets["kind"])]


class Learner(nn.Module):
    """What a user writes around a network: its losses with trained weights, and a penalty."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.combiner = UncertaintyWeighting(TASKS, initial_log_variance=0.5)

    def forward(self, x: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        loss = self.combiner(torch.stack(losses(self.network(x), targets)))
        # Soft sharing where there are networks to tie.
        tied = isinstance(getattr(self.network, "branches", None), nn.ModuleDict)
        return loss + SquaredDistance(0.1)(self.network) if tied else loss


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert found.keys() == trained
    return found


def reference(build: Callable[[], nn.Module], steps: int = STEPS) -> Learner:
    """Trained by plain SGD on the whole batch, in one process and in float32."""
    learner, (x, targets) = Learner(made(build)), batch()
    optimiser = torch.optim.SGD(learner.parameters(), lr=0.1)
    for _ in range(steps):
        optimiser.zero_grad()
        learner(x, targets).backward()
        optimiser.step()
    return learner


def balanced_by_hand(model: nn.Module, x: Tensor, targets: Mapping[str, Tensor]) -> dict:
    """UPGrad for two tasks in closed form; heads get their own gradients.

    Each task's gradient loses its part against the other's: the update is the mean of
    g_s − min(<g_s, g_t>, 0) g_t / |g_t|².
    """
    each = losses(model(x), targets)
    rows = {
        name: [
            torch.autograd.grad(loss, parameter, retain_graph=True, allow_unused=True)[0]
            for loss in each
        ]
        for name, parameter in model.named_parameters()
    }
    shared = [own for own in rows.values() if all(row is not None for row in own)]
    first, second = (torch.cat([row.flatten() for row in own]) for own in zip(*shared, strict=True))
    conflict = (first @ second).clamp(max=0)
    weights = [(1 - conflict / (own @ own)) / 2 for own in (first, second)]
    return {
        name: weights[0] * own[0] + weights[1] * own[1]
        if None not in own
        else next(row for row in own if row is not None)
        for name, own in rows.items()
    }


def balanced_reference(batches: Sequence[Batch], steps: int = STEPS) -> nn.Module:
    """Trained by plain SGD on the mean of what balancing makes of each batch."""
    model = made(hard)
    for _ in range(steps):
        found = [balanced_by_hand(model, *each) for each in batches]
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter -= 0.1 * sum(each[name] for each in found) / len(batches)
    return model


# Autocast and accumulation ------------------------------------------------------------------------


def assert_near(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], dtype: torch.dtype):
    assert found.keys() == expected.keys()
    # bfloat16 has 8 significant bits.
    tolerance = 2.0**-6 if dtype == torch.bfloat16 else 1e-6
    for name, gradient in found.items():
        assert gradient.dtype == torch.float32
        error = (gradient - expected[name]).norm()
        assert error <= tolerance * (gradient.norm() + 0.1), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("build", NETWORKS)
def test_gradients_accumulate_under_autocast(build, dtype):
    """Two half batches, each in bfloat16, against the whole batch in float32."""
    learner = Learner(made(build))
    for number in range(2):
        x, targets = half(number)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            assert learner.network(x)["price"].dtype == dtype
            loss = learner(x, targets) / 2
        loss.backward()
    assert_near(gradients(learner), gradients(reference(build, steps=1)), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_balanced_gradients_accumulate_under_autocast(dtype):
    """Each half batch is balanced on its own: what accumulates is the mean of the two."""
    model = made(hard)
    for number in range(2):
        x, targets = half(number)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            each = losses(model(x), targets)
        backward([loss / 2 for loss in each], model.parameters(), UPGrad(TASKS))
    first, second = (balanced_by_hand(model, *half(number)) for number in range(2))
    expected = {name: (first[name] + second[name]) / 2 for name in first}
    assert_near(gradients(model), expected, dtype)


def test_the_tasks_conflict_so_that_balancing_changes_the_update():
    model, (x, targets) = made(hard), batch()
    evidence = backward(losses(model(x), targets), model.parameters(), UPGrad(TASKS))
    assert (UPGrad(TASKS).weigh(evidence)[1] / 0.5) > 2


def test_dropout_masks_and_schedules_do_not_change_while_gradients_accumulate():
    model = reproducible(nn.Sequential(nn.Dropout(0.5), GradientReversal()), seed=0)
    advance(model, 0.1)
    x = torch.ones(100, requires_grad=True)
    first, second = (torch.autograd.grad(model(x).sum(), x)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert first.any()


# torch.compile ------------------------------------------------------------------------------------


def compile_and_compare(rank: int) -> None:
    """By each compiler at hand; the one for the CPU writes C++."""
    torch.set_num_threads(1)
    compare_learners("aot_eager", NETWORKS)
    if shutil.which("g++") is None:
        compare_balancing("aot_eager")
    else:
        # A pool of compilers takes longer to start than one takes for these few kernels.
        os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
        compare_learners("inductor", [cross_stitch])
        compare_balancing("inductor")


def compare_learners(backend: str, builds: list[Callable[[], nn.Module]]) -> None:
    """All in one graph: networks, weighted losses, penalty, dropout and a schedule."""
    front = nn.Sequential(nn.Linear(6, 6), GradientReversal(), nn.Dropout(0.3))
    models = nn.ModuleList([front, *(Learner(made(build)) for build in builds)])
    reproducible(models, seed=0)
    x, targets = batch()

    def objective() -> Tensor:
        learners = list(models)[1:]
        return torch.stack([learner(front(x), targets) for learner in learners]).sum()

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


def compare_balancing(backend: str) -> None:
    """A compiled network is one node of the graph: the user says which parameters are shared."""
    model, combiner, (x, targets) = made(hard), UPGrad(TASKS), batch()
    each = losses(torch.compile(model, backend=backend, fullgraph=True)(x), targets)
    shared = list(model.get_submodule("trunk").parameters())
    others = [*model.get_submodule("branches").parameters()]
    others += model.get_submodule("heads").parameters()
    trunk = task_gradients(each, shared, retain_graph=True)
    stacked = torch.stack(each)
    labelled = torch.ones_like(stacked, dtype=torch.bool)
    trunk.accumulate(combiner.weigh(Evidence(stacked.detach(), labelled, gramian=trunk.gramian)))
    stacked.sum().backward(inputs=others)
    assert_near(gradients(model), balanced_by_hand(model, x, targets), torch.float32)


def test_compiled_networks_compute_the_same():
    """In a process of its own: the tests' checks of shapes at run time cannot be compiled."""
    spawn(compile_and_compare)


# Lightning ----------------------------------------------------------------------------------------


its_own_warnings_do_not_count = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"
)


@pytest.fixture
def lightning() -> ModuleType:
    return pytest.importorskip("lightning", reason="the extra 'compare' installs it")


def train_by(trainer: type, module: nn.Module, folder: Path) -> None:
    """On one CPU, with the whole batch at each step, and without logs and checkpoints."""
    x, targets = batch()
    loader = DataLoader(TensorDataset(x, targets["price"], targets["kind"]), batch_size=ROWS)
    own = trainer(
        accelerator="cpu", devices=1, max_epochs=STEPS, barebones=True, default_root_dir=folder
    )
    own.fit(module, loader)


@its_own_warnings_do_not_count
@pytest.mark.parametrize("build", NETWORKS)
def test_lightning_trains_as_a_plain_loop(build, lightning, tmp_path):
    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.learner = Learner(made(build))

        def training_step(self, rows: Sequence[Tensor]) -> Tensor:
            x, price, kind = rows
            return self.learner(x, {"price": price, "kind": kind})

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    module = Module()
    train_by(lightning.Trainer, module, tmp_path)
    torch.testing.assert_close(module.learner.state_dict(), reference(build).state_dict())


@its_own_warnings_do_not_count
def test_lightning_balances_gradients_where_the_optimisation_is_manual(lightning, tmp_path):
    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.model, self.combiner = made(hard), UPGrad(TASKS)

        def training_step(self, rows: Sequence[Tensor]) -> None:
            x, price, kind = rows
            optimiser = self.optimizers()
            optimiser.zero_grad()
            each = losses(self.model(x), {"price": price, "kind": kind})
            backward(each, self.model.parameters(), self.combiner)
            optimiser.step()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    module = Module()
    train_by(lightning.Trainer, module, tmp_path)
    expected = balanced_reference([batch()]).state_dict()
    torch.testing.assert_close(module.model.state_dict(), expected)


# DistributedDataParallel --------------------------------------------------------------------------


def train_in_parallel(rank: int, folder: str) -> None:
    """One of two processes, with half of each batch."""
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    x, targets = half(rank)
    for build in NETWORKS:
        learner = DistributedDataParallel(Learner(made(build)))
        optimiser = torch.optim.SGD(learner.parameters(), lr=0.1)
        for _ in range(STEPS):
            optimiser.zero_grad()
            learner(x, targets).backward()
            optimiser.step()
        if rank == 0:
            torch.save(learner.module.state_dict(), Path(folder) / f"{build.__name__}.pt")
    model = DistributedDataParallel(made(hard))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(STEPS):
        optimiser.zero_grad()
        # Its hooks see one backward pass, and balancing takes several: average what comes out.
        with model.no_sync():
            backward(losses(model(x), targets), model.parameters(), UPGrad(TASKS))
        for gradient in gradients(model.module).values():
            dist.all_reduce(gradient)
            gradient /= dist.get_world_size()
        optimiser.step()
    torch.save(model.module.state_dict(), Path(folder) / f"balanced_{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def trained_in_parallel(tmp_path_factory) -> Path:
    if not dist.is_gloo_available():
        pytest.skip("needs PyTorch's gloo")
    folder = tmp_path_factory.mktemp("parallel")
    spawn(train_in_parallel, args=(str(folder),), nprocs=2)
    return folder


@pytest.mark.parametrize("build", NETWORKS)
def test_two_processes_train_as_one_with_the_whole_batch(build, trained_in_parallel):
    found = torch.load(trained_in_parallel / f"{build.__name__}.pt")
    torch.testing.assert_close(found, reference(build).state_dict(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rank", range(2))
def test_two_processes_average_what_each_has_balanced(rank, trained_in_parallel):
    """As gradients that accumulate: each process balances the conflict in its own rows."""
    found = torch.load(trained_in_parallel / f"balanced_{rank}.pt")
    expected = balanced_reference([half(number) for number in range(2)]).state_dict()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


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
    torch.stack(losses(model(x), targets)).sum().backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1).step()
    assert not alike(model, users)
    trunk.load_state_dict(stages_of_price(model).state_dict())
    head.load_state_dict(own_head.state_dict())
    assert alike(model, users)


@pytest.mark.parametrize("build", NETWORKS)
def test_a_state_dict_restores_network_and_trained_weights(build):
    trained, fresh = reference(build), Learner(build())
    fresh.load_state_dict(trained.state_dict())
    x, targets = batch()
    assert torch.equal(fresh(x, targets), trained(x, targets))


@pytest.mark.parametrize("combine", [UncertaintyWeighting, UPGrad, PCGrad])
def test_a_training_resumes_from_its_state_dicts(combine):
    """PCGrad draws an order of the tasks at each step, and goes on with the next."""

    def begin() -> tuple[nn.Module, Combiner, torch.optim.Optimizer]:
        model, combiner = made(hard), combine(TASKS)
        every = [*model.parameters(), *combiner.parameters()]
        return model, combiner, torch.optim.SGD(every, lr=0.1, momentum=0.9)

    def go_on(model: nn.Module, combiner: Combiner, optimiser: torch.optim.Optimizer) -> None:
        x, targets = batch()
        for _ in range(STEPS):
            optimiser.zero_grad()
            backward(losses(model(x), targets), model.parameters(), combiner)
            optimiser.step()

    uninterrupted, resumed, file = begin(), begin(), BytesIO()
    go_on(*uninterrupted)
    torch.save([part.state_dict() for part in uninterrupted], file)
    go_on(*uninterrupted)
    file.seek(0)
    for part, state in zip(resumed, torch.load(file), strict=True):
        part.load_state_dict(state)
    go_on(*resumed)
    for ours, theirs in zip(uninterrupted[:2], resumed[:2], strict=True):
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)


PARTS = {  # of networks without a trunk
    soft: "branches.price",
    cross_stitch: "columns.price",
    tree: "branches.0",
    low_supervision: "layers.0",
    joint_many_task: "levels.0",
    factorised: "stages.0",
    sluice: "columns.price",
    mixture: "experts.0",
    extraction: "shared.0",
}


@pytest.mark.parametrize("build", NETWORKS)
def test_frozen_stages_stay_as_they_are(build):
    learner = Learner(made(build))
    frozen = learner.network.get_submodule(PARTS.get(build, "trunk")).requires_grad_(False)
    before = {name: values.clone() for name, values in learner.state_dict().items()}
    learner(*batch()).backward()
    torch.optim.SGD([p for p in learner.parameters() if p.requires_grad], lr=0.1).step()
    fixed = {id(parameter) for parameter in learner.parameters() if not parameter.requires_grad}
    assert fixed >= {id(parameter) for parameter in frozen.parameters()}
    for name, parameter in learner.named_parameters():
        assert torch.equal(parameter, before[name]) == (id(parameter) in fixed), name
