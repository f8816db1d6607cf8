"""What the training floor must carry: small real instances, against loops written by hand.

Each trains by `fit` with a few lines of a user's own, all seeds at once; the result is equal to a
plain PyTorch loop for one of the seeds to 1e-9, and to training seed by seed.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from mtlbook.balancing.backward import backward
from mtlbook.balancing.imtl import IMTL
from mtlbook.balancing.mgda import MGDA
from mtlbook.balancing.pcgrad import PCGrad
from mtlbook.balancing.upgrad import UPGrad
from mtlbook.combiner import Combiner
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.layers.dropout import reproducible
from mtlbook.layers.recurrent import LSTM
from mtlbook.layers.schedule import Scheduled, advance
from mtlbook.randomness import generator
from mtlbook.sharing.hard import HardSharing
from mtlbook.tasks import IGNORED, Task
from mtlbook.training.context import Batch, StepContext
from mtlbook.training.fit import fit
from mtlbook.training.minibatches import Minibatches
from mtlbook.training.objective import Objective
from mtlbook.training.results import Fit
from mtlbook.training.sampling import Mixed, Passes, RowsOf, Streams
from mtlbook.training.settings import Settings
from mtlbook.weighting.auto_lambda import AutoLambda
from mtlbook.weighting.dynamic_weight_average import DynamicWeightAverage
from mtlbook.weighting.famo import FAMO
from mtlbook.weighting.gradnorm import GradNorm
from mtlbook.weighting.linear_scalarisation import LinearScalarisation
from mtlbook.weighting.random_weights import RandomWeights
from mtlbook.weighting.uncertainty import UncertaintyWeighting

RATE = 0.05
SGD = partial(torch.optim.SGD, lr=RATE)
SETTINGS = Settings(
    steps=12, validate_every=6, device="cpu", stopping=None, optimiser=SGD, sampler=Mixed(16)
)
SEEDS, SEED = (4, 1, 7), 1
TASKS = [Task.regression("a"), Task.regression("b"), Task.classification("c", classes=3)]
NAMES = [task.name for task in TASKS]


def draw(*shape: int, purpose: str = "floor") -> Tensor:
    return torch.randn(*shape, generator=generator(0, purpose), dtype=torch.float64)


def table(rows: int = 60) -> MultiTaskData:
    inputs, signal = draw(rows, 4), draw(rows, 5, purpose="signal")
    signal[:, :4] += inputs
    targets = {"a": 3 * signal[:, 0], "b": signal[:, 1], "c": signal[:, 2:].argmax(1)}
    return MultiTaskData.multi_label(TASKS, inputs, targets)


def stages() -> list[nn.Module]:
    return [nn.Linear(4, 6), nn.Tanh()]


def network(data: MultiTaskData, seed: int) -> HardSharing:
    heads: dict[str, nn.Module] = {"a": nn.Linear(6, 1), "b": nn.Linear(6, 1), "c": nn.Linear(6, 3)}
    return HardSharing(stages, heads)


def fresh(build: Callable[..., nn.Module], data: MultiTaskData, seed: int = SEED) -> Any:
    """The network of a seed before training, as `fit` makes it, for a loop of one's own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(seed, "initialisation").initial_seed())
        torch.set_default_dtype(torch.float64)
        model = reproducible(build(data, seed), seed)
        torch.set_default_dtype(torch.float32)
    return model


def rows_of(data: MultiTaskData, split: Holdout | None = None, seed: int = SEED) -> Any:
    return (split or Holdout()).draw(data, seed)


def check(
    build: Callable[..., nn.Module],
    data: MultiTaskData,
    settings: Settings,
    by_hand: nn.Module,
) -> Fit:
    """All seeds at once are what the loop by hand is, and what seed by seed is."""
    together = fit(build, data, seeds=SEEDS, settings=settings)
    apart = fit(build, data, seeds=SEEDS, settings=replace(settings, vectorise=False))
    expected = by_hand.state_dict()
    for name, own in together.model(SEED).state_dict().items():
        torch.testing.assert_close(own, expected[name], rtol=1e-9, atol=1e-11)
    for seed in SEEDS:
        one, other = (each.model(seed).state_dict() for each in (together, apart))
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
    return together


# Combiners --------------------------------------------------------------------------------------

COMBINERS: dict[str, Callable[[], Combiner]] = {
    "fixed weights": lambda: LinearScalarisation({"c": 0.5, "a": 0.1, "b": 2.0}),
    "uncertainty": lambda: UncertaintyWeighting(TASKS),
    "DWA": lambda: DynamicWeightAverage(TASKS, period=3),
    "RLW": lambda: RandomWeights(TASKS),
    "GradNorm": lambda: GradNorm(TASKS),
    "MGDA": lambda: MGDA(TASKS),
    "UPGrad": lambda: UPGrad(TASKS),
    "PCGrad": lambda: PCGrad(TASKS),
    "FAMO": lambda: FAMO(TASKS),
    "IMTL": lambda: IMTL(TASKS),
}


@pytest.mark.parametrize("make", COMBINERS.values(), ids=COMBINERS)
def test_each_combiner_is_in_fit_what_it_is_in_a_plain_loop(make):
    data = table()
    model, combiner = fresh(network, data), make().replicated([SEED]).replica(0).double()
    batches = Minibatches([rows_of(data).train], 16, [SEED], "mixed")
    trained = [*model.parameters(), *combiner.parameters()]
    optimiser = SGD(trained)
    by_name = {task.name: task for task in TASKS}

    def losses(rows: Tensor) -> list[Tensor]:
        predicted = model(data.inputs[rows])
        return [by_name[n].loss(predicted[n], data.targets[n][rows]).mean() for n in combiner.tasks]

    for step in range(12):
        rows = batches.take(1)[0, 0]
        optimiser.zero_grad()
        progress = step / 12
        evidence = backward(losses(rows), model.parameters(), combiner, progress=progress)
        optimiser.step()
        if combiner.losses_after:
            with torch.no_grad():
                combiner.after(evidence, torch.stack(losses(rows)))
    fitted = check(network, data, replace(SETTINGS, combiner=make()), model)
    learnt = fitted.combiner(SEED)
    assert learnt is not None
    torch.testing.assert_close(learnt.state_dict(), combiner.state_dict(), rtol=1e-9, atol=1e-11)


def test_the_weights_of_auto_lambda_follow_a_second_stream():
    data, size = table(), 0.1
    sampler = Streams(8, rows={"train": RowsOf(), "held-out": RowsOf(part="validation")})

    def make() -> AutoLambda:
        return AutoLambda(TASKS, ["b"], stream="held-out", step_size=size, learning_rate=0.01)

    model, split = fresh(network, data), rows_of(data)
    streams = {
        name: Minibatches([rows], 8, [SEED], name)
        for name, rows in (("train", split.train), ("held-out", split.validation))
    }
    optimiser = SGD(list(model.parameters()))
    adam = {"m": torch.zeros(3).double(), "v": torch.zeros(3).double()}
    weights = make().double().weights
    for step in range(1, 7):
        here, there = (streams[name].take(1)[0, 0] for name in ("train", "held-out"))
        parameters = dict(model.named_parameters())

        def held_out(own: Tensor, here: Any = here, there: Any = there, p: Any = parameters) -> Any:
            # The loss after a virtual step, as a function of the weights.
            predicted = model(data.inputs[here])
            losses = [t.loss(predicted[t.name], data.targets[t.name][here]).mean() for t in TASKS]
            total = own @ torch.stack(losses)
            moved = torch.autograd.grad(total, list(p.values()), create_graph=True)
            virtual = {n: v - size * g for (n, v), g in zip(p.items(), moved, strict=True)}
            ahead = functional_call(model, virtual, (data.inputs[there],))
            return TASKS[1].loss(ahead["b"], data.targets["b"][there]).mean()

        leaf = weights.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(held_out(leaf), leaf)
        adam["m"] = 0.9 * adam["m"] + 0.1 * gradient
        adam["v"] = 0.999 * adam["v"] + 0.001 * gradient**2
        corrected = adam["m"] / (1 - 0.9**step), adam["v"] / (1 - 0.999**step)
        weights = weights - 0.01 * corrected[0] / (corrected[1].sqrt() + 1e-8)
        optimiser.zero_grad()
        predicted = model(data.inputs[here])
        losses = [t.loss(predicted[t.name], data.targets[t.name][here]).mean() for t in TASKS]
        (weights @ torch.stack(losses)).backward()
        optimiser.step()
    settings = replace(SETTINGS, steps=6, sampler=sampler, combiner=make())
    fitted = check(network, data, settings, model)
    learnt = fitted.combiner(SEED)
    assert isinstance(learnt, AutoLambda)
    torch.testing.assert_close(learnt.weights, weights, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("make", [MGDA, UPGrad, PCGrad, GradNorm])
def test_gradients_of_one_task_or_of_separate_networks_are_left_alone(make):
    def separate(data: MultiTaskData, seed: int) -> HardSharing:
        return HardSharing(stages, dict(network(data, seed).heads), branch_at=0)

    for build, names in ((network, ["b"]), (separate, NAMES)):
        own = replace(SETTINGS, tasks=names)
        plain = fit(build, table(), seeds=SEEDS, settings=own)
        balanced = fit(build, table(), seeds=SEEDS, settings=replace(own, combiner=make(names)))
        for seed in SEEDS:
            one, other = (each.model(seed).state_dict() for each in (plain, balanced))
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_a_batch_without_labels_of_a_task_leaves_the_others_balanced():
    marks = {name: torch.ones(60, dtype=torch.bool) for name in NAMES}
    marks["b"] = torch.arange(60) % 12 == 0
    whole = table()
    data = MultiTaskData.partial(TASKS, whole.inputs, whole.targets, marks)
    settings = replace(SETTINGS, sampler=Mixed(4), steps=30)
    for make in (MGDA, UPGrad, PCGrad, IMTL, GradNorm, FAMO):
        fitted = fit(network, data, seeds=SEEDS, settings=replace(settings, combiner=make(TASKS)))
        assert np.isfinite(fitted.results["value"]).all()


def test_a_seed_does_not_depend_on_its_neighbours_state():
    for make in COMBINERS.values():
        settings = replace(SETTINGS, combiner=make())
        one = fit(network, table(), seeds=[SEED], settings=settings).model(SEED).state_dict()
        more = fit(network, table(), seeds=[9, 3, SEED], settings=settings).model(SEED)
        torch.testing.assert_close(one, more.state_dict(), rtol=1e-9, atol=1e-11)


# Objectives over named streams ------------------------------------------------------------------

DIGIT = Task.classification("c", classes=3)


def few_labels() -> MultiTaskData:
    whole = table()
    known = torch.arange(60) % 3 == 0
    return MultiTaskData.partial([DIGIT], whole.inputs, {"c": whole.targets["c"]}, {"c": known})


def embedding(data: MultiTaskData, seed: int) -> HardSharing:
    return HardSharing(stages, {"c": nn.Linear(6, 3)})


def by_association(labelled: Tensor, classes: Tensor, unlabelled: Tensor) -> tuple[Tensor, Tensor]:
    """Walks from labelled to unlabelled embeddings and back end in the same class."""
    there = (labelled @ unlabelled.T).softmax(1)
    back = (unlabelled @ labelled.T).softmax(1)
    same = (classes[:, None] == classes).to(there)
    target = same / same.sum(1, keepdim=True)
    walker = -(target * (there @ back + 1e-8).log()).sum(1).mean()
    visit = -(there.mean(0) + 1e-8).log().mean()
    return walker, visit


def test_learning_by_association():
    data, split = few_labels(), Holdout(train=0.8, validation=0.1, test=0.1)

    def compute(model: Any, batches: Mapping[str, Batch], context: StepContext) -> Any:
        labelled, unlabelled = batches["labelled"], batches["unlabelled"]
        features = model.trunk(labelled.inputs)
        classes = labelled.targets["c"]
        walker, visit = by_association(features, classes, model.trunk(unlabelled.inputs))
        own = DIGIT.loss(model.heads["c"](features), classes).mean()
        return {"c": own, "walker": walker, "visit": visit}

    streams = {"labelled": RowsOf(task="c"), "unlabelled": RowsOf(part="unlabelled")}
    settings = replace(
        SETTINGS,
        split=split,
        sampler=Streams(rows=streams, sizes={"labelled": 6, "unlabelled": 10}),
        objective=Objective(("c", "walker", "visit"), compute),
        combiner=LinearScalarisation({"c": 1.0, "walker": 1.0, "visit": 0.5}),
    )
    model, drawn = fresh(embedding, data), rows_of(data, split)
    rows = {"labelled": drawn.train, "unlabelled": drawn.unlabelled}
    sizes = {"labelled": 6, "unlabelled": 10}
    batches = {n: Minibatches([own], sizes[n], [SEED], n) for n, own in rows.items()}
    optimiser = SGD(list(model.parameters()))
    for _ in range(12):
        here, there = (batches[name].take(1)[0, 0] for name in rows)
        features, classes = model.trunk(data.inputs[here]), data.targets["c"][here]
        walker, visit = by_association(features, classes, model.trunk(data.inputs[there]))
        loss = F.cross_entropy(model.heads["c"](features), classes) + walker + 0.5 * visit
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    fitted = check(embedding, data, settings, model)
    assert {"walker", "visit"} < set(fitted.history["task"])


def test_a_language_model_on_unlabelled_rows():
    tokens = torch.randint(5, (60, 6), generator=generator(0, "tokens"))
    known = torch.arange(60) % 3 == 0
    task = Task.binary("odd")
    odd = (tokens.sum(1) % 2).double()
    data = MultiTaskData.partial([task], tokens, {"odd": odd}, {"odd": known})

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(5, 4)
            self.states = LSTM(4, 6, bidirectional=False)
            self.next, self.head = nn.Linear(6, 5), nn.Linear(6, 1)

        def forward(self, tokens: Tensor) -> dict[str, Tensor]:
            states = self.states(self.embedding(tokens))
            return {"odd": self.head(states[:, -1]), "next": self.next(states)}

    def language(model: nn.Module, inputs: Any) -> Tensor:
        guessed = model(inputs)["next"][:, :-1]
        return F.cross_entropy(guessed.flatten(0, 1), inputs[:, 1:].flatten())

    def compute(model: Any, batches: Mapping[str, Batch], context: StepContext) -> Any:
        labelled = batches["labelled"]
        assert isinstance(labelled.inputs, Tensor)
        own = task.loss(model(labelled.inputs)["odd"], labelled.targets["odd"]).mean()
        return {"odd": own, "language": language(model, batches["text"].inputs)}

    settings = replace(
        SETTINGS,
        steps=5,
        sampler=Streams(7, rows={"labelled": RowsOf(task="odd"), "text": RowsOf("unlabelled")}),
        objective=Objective(("odd", "language"), compute),
    )

    def build(data: MultiTaskData, seed: int) -> nn.Module:
        return Reader()

    model, drawn = fresh(build, data), rows_of(data)
    rows = {"labelled": drawn.train, "text": drawn.unlabelled}
    batches = {name: Minibatches([own], 7, [SEED], name) for name, own in rows.items()}
    optimiser = SGD(list(model.parameters()))
    for _ in range(5):
        here, text = (batches[name].take(1)[0, 0] for name in rows)
        loss = task.loss(model(tokens[here])["odd"], data.targets["odd"][here]).mean()
        optimiser.zero_grad()
        (loss + language(model, tokens[text])).backward()
        optimiser.step()
    check(build, data, settings, model)


class MAML(nn.Module):
    """One inner step on the support set, then the query set: a row of the data is an episode."""

    def __init__(self) -> None:
        super().__init__()
        self.learner = nn.Sequential(nn.Linear(1, 5), nn.Tanh(), nn.Linear(5, 1))

    def forward(self, episodes: Tensor) -> dict[str, Tensor]:
        # (episodes, [support x, support y, query x], points)
        parameters = dict(self.learner.named_parameters())

        def adapted(episode: Tensor) -> Tensor:
            x, y, query = episode.unsqueeze(-1)

            def support_loss(own: Any) -> Tensor:
                return (functional_call(self.learner, own, (x,)) - y).square().mean()

            gradient = torch.func.grad(support_loss)(parameters)
            inner = {name: own - 0.1 * gradient[name] for name, own in parameters.items()}
            return functional_call(self.learner, inner, (query,))[:, 0]

        return {"query": torch.vmap(adapted)(episodes)}


def test_a_row_may_be_an_episode_of_meta_learning():
    slopes, x = draw(40, 1), draw(40, 2, 5, purpose="points")
    episodes = torch.stack([x[:, 0], slopes * x[:, 0], x[:, 1]], dim=1)
    task = Task.regression("query", outputs=5)
    data = MultiTaskData.multi_label([task], episodes, {"query": slopes * x[:, 1]})

    def build(data: MultiTaskData, seed: int) -> nn.Module:
        return MAML()

    model = fresh(build, data)
    batches = Minibatches([rows_of(data).train], 8, [SEED], "mixed")
    optimiser = SGD(list(model.parameters()))
    for _ in range(6):
        rows = batches.take(1)[0, 0]
        optimiser.zero_grad()
        total = torch.zeros((), dtype=torch.float64)
        for row in rows:  # one episode after another, by autograd's second derivatives
            x, y, query = episodes[row].unsqueeze(-1)
            learner = model.learner
            loss = (learner(x) - y).square().mean()
            gradient = torch.autograd.grad(loss, list(learner.parameters()), create_graph=True)
            named = zip(learner.named_parameters(), gradient, strict=True)
            inner = {name: own - 0.1 * g for (name, own), g in named}
            guessed = functional_call(learner, inner, (query,))[:, 0]
            total = total + (guessed - data.targets["query"][row]).square().mean()
        (total / len(rows)).backward()
        optimiser.step()
    check(build, data, replace(SETTINGS, steps=6, sampler=Mixed(8)), model)


# Penalties to earlier values, what follows a step ------------------------------------------------


def test_successive_regularisation_towards_the_values_before_a_tasks_pass():
    """Hashimoto et al. (2017): each task's pass stays near the parameters it began with."""
    data, strength = table(), 0.7

    def successive(model: nn.Module, context: StepContext) -> Tensor:
        trunk = [(n, own) for n, own in model.named_parameters() if n.startswith("trunk")]
        moved = [(own - context.earlier[name]).square().sum() for name, own in trunk]
        # Each task has a strength of its own.
        return strength * (1 + NAMES.index(context.tasks[0])) * torch.stack(moved).sum()

    settings = replace(SETTINGS, steps=20, sampler=Passes(16), regulariser=successive)
    model, train = fresh(network, data), rows_of(data).train
    batches = {name: Minibatches([train], 16, [SEED], name) for name in NAMES}
    optimiser = SGD(list(model.parameters()))
    earlier: list[Tensor] = []
    for step in range(20):
        task = TASKS[step // 2 % 3]  # 36 rows are two full batches
        if step % 2 == 0:
            earlier = [own.detach().clone() for own in model.trunk.parameters()]
        rows = batches[task.name].take(1)[0, 0]
        loss = task.loss(model(data.inputs[rows])[task.name], data.targets[task.name][rows]).mean()
        pairs = zip(model.trunk.parameters(), earlier, strict=True)
        moved = torch.stack([(own - before).square().sum() for own, before in pairs]).sum()
        optimiser.zero_grad()
        (loss + strength * (1 + TASKS.index(task)) * moved).backward()
        optimiser.step()
    check(network, data, settings, model)


class Related(nn.Module):
    """Linear heads with a matrix-normal prior, whose task covariance is a buffer."""

    covariance: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 4))
        self.register_buffer("covariance", torch.eye(2) / 2)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        a, b = (inputs @ self.weight.T).unbind(1)
        return {"a": a[:, None], "b": b[:, None]}


def penalty(weight: Tensor, covariance: Tensor) -> Tensor:
    return 0.01 * torch.trace(weight.T @ torch.linalg.solve(covariance, weight))


def updated(weight: Tensor) -> Tensor:
    """(W Wᵀ)^½ / tr (W Wᵀ)^½ (Zhang and Yeung, 2010), with a ridge."""
    values, vectors = torch.linalg.eigh(weight @ weight.T)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root / torch.trace(root) + 0.01 * torch.eye(2).to(weight)


def test_a_covariance_is_updated_every_few_steps_in_a_buffer():
    data = table()

    def after_step(model: Any, context: StepContext) -> dict[str, Tensor]:
        return {"covariance": updated(model.weight)} if context.step % 4 == 3 else {}

    def build(data: MultiTaskData, seed: int) -> nn.Module:
        return Related()

    settings = replace(
        SETTINGS, tasks=["a", "b"], after_step=after_step,
        regulariser=lambda model, context: penalty(model.weight, model.covariance),
    )  # fmt: skip
    model = fresh(build, data)
    batches = Minibatches([rows_of(data).train], 16, [SEED], "mixed")
    optimiser = SGD([model.weight])
    for step in range(12):
        rows = batches.take(1)[0, 0]
        predicted = model(data.inputs[rows])
        losses = [t.loss(predicted[t.name], data.targets[t.name][rows]).mean() for t in TASKS[:2]]
        optimiser.zero_grad()
        (sum(losses) + penalty(model.weight, model.covariance)).backward()
        optimiser.step()
        if step % 4 == 3:
            model.covariance.copy_(updated(model.weight.detach()))
    check(build, data, settings, model)


# Networks that change ---------------------------------------------------------------------------


def test_a_network_branches_between_two_trainings_and_keeps_its_predictions():
    data = table()
    first = fit(network, data, seeds=SEEDS, settings=SETTINGS)

    def branched(data: MultiTaskData, seed: int) -> HardSharing:
        before = first.model(seed)
        assert isinstance(before, HardSharing)
        trunk = list(before.trunk)
        return HardSharing(lambda: deepcopy(trunk), dict(before.heads), branch_at=0)

    for seed in SEEDS:
        before, after = first.model(seed)(data.inputs), branched(data, seed)(data.inputs)
        torch.testing.assert_close(before, after, rtol=0, atol=0)
    model = branched(data, SEED)
    batches = Minibatches([rows_of(data).train], 16, [SEED], "mixed")
    optimiser = SGD(list(model.parameters()))
    for _ in range(12):
        rows = batches.take(1)[0, 0]
        predicted = model(data.inputs[rows])
        losses = [t.loss(predicted[t.name], data.targets[t.name][rows]).mean() for t in TASKS]
        optimiser.zero_grad()
        torch.stack(losses).sum().backward()
        optimiser.step()
    check(branched, data, SETTINGS, model)


# Sequences --------------------------------------------------------------------------------------


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 4)
        self.states = LSTM(4, 5, bidirectional=True)
        self.heads = nn.ModuleDict({"spans": nn.Linear(10, 3), "parity": nn.Linear(10, 2)})

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        states = self.states(self.embedding(inputs["tokens"]), inputs["mask"])
        return {name: head(states).movedim(-1, 1) for name, head in self.heads.items()}


def sentences() -> MultiTaskData:
    """Sentences of 3 to 8 tokens, padded; spans begin at tokens above 6 and go on above 3."""
    source = generator(0, "sentences")
    tokens = torch.randint(1, 9, (50, 8), generator=source)
    length = torch.randint(3, 9, (50, 1), generator=source)
    mask = torch.arange(8) < length
    tokens = tokens * mask
    begins = tokens > 6
    inside = torch.zeros_like(begins)
    for place in range(1, 8):
        inside[:, place] = (begins | inside)[:, place - 1] & (tokens[:, place] > 3)
    spans = torch.where(begins, 1, torch.where(inside, 2, 0)).where(mask, IGNORED)
    parity = (tokens % 2).where(mask, IGNORED)
    tasks = [Task.tagging("spans", labels=3), Task.tagging("parity", labels=2)]
    inputs = {"tokens": tokens, "mask": mask}
    return MultiTaskData.multi_label(tasks, inputs, {"spans": spans, "parity": parity})


def test_tagging_sequences_end_to_end():
    data = sentences()

    def build(data: MultiTaskData, seed: int) -> nn.Module:
        return Tagger()

    settings = replace(SETTINGS, optimiser=partial(torch.optim.Adam, lr=0.02), sampler=Mixed(10))
    model = fresh(build, data)
    batches = Minibatches([rows_of(data).train], 10, [SEED], "mixed")
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    assert isinstance(data.inputs, dict)
    for _ in range(12):
        rows = batches.take(1)[0, 0]
        predicted = model({name: own[rows] for name, own in data.inputs.items()})
        losses = []
        for task in data.tasks:  # the mean over a sentence's own tokens, then over sentences
            target = data.targets[task.name][rows]
            each = F.cross_entropy(
                predicted[task.name], target, reduction="none", ignore_index=IGNORED
            )
            losses.append((each.sum(1) / (target != IGNORED).sum(1)).mean())
        optimiser.zero_grad()
        torch.stack(losses).sum().backward()
        optimiser.step()
    check(build, data, settings, model)
    longer = fit(build, data, seeds=SEEDS, settings=replace(settings, steps=250))
    assert longer.score("parity").min() > 0.95
    assert longer.score("spans").min() > 0.8


# Schedules, normalisation, dropout --------------------------------------------------------------


class Fading(Scheduled):
    """Passes on less and less, by the training's progress."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * (1 - self.progress)


def with_layer(*layers: Callable[[], nn.Module]) -> Callable[[MultiTaskData, int], nn.Module]:
    def build(data: MultiTaskData, seed: int) -> nn.Module:
        own = [nn.Linear(4, 6), *(make() for make in layers), nn.Tanh()]
        heads: dict[str, nn.Module] = {"a": nn.Linear(6, 1), "b": nn.Linear(6, 1)}
        return HardSharing(lambda: own, heads)

    return build


LAYERS: dict[str, tuple[Callable[[], nn.Module], ...]] = {
    "batch normalisation": (lambda: nn.BatchNorm1d(6),),
    "dropout": (lambda: nn.Dropout(0.4), lambda: nn.Linear(6, 6), lambda: nn.Dropout(0.2)),
    "weight normalisation": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 6)),),
    "layer normalisation": (lambda: nn.LayerNorm(6),),
    "a schedule": (Fading,),
}


@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
def test_layers_with_a_state_of_their_own(layers):
    data, build, names = table(), with_layer(*layers), ["a", "b"]
    model = fresh(build, data)
    batches = Minibatches([rows_of(data).train], 16, [SEED], "mixed")
    optimiser = SGD(list(model.parameters()))
    for step in range(12):
        advance(model, step / 12)
        rows = batches.take(1)[0, 0]
        predicted = model(data.inputs[rows])
        losses = [t.loss(predicted[t.name], data.targets[t.name][rows]).mean() for t in TASKS[:2]]
        optimiser.zero_grad()
        torch.stack(losses).sum().backward()
        optimiser.step()
    fitted = check(build, data, replace(SETTINGS, tasks=names), model)
    test = torch.as_tensor(fitted.test[SEEDS.index(SEED)])
    expected = model.eval()(data.inputs[test])["a"].detach().numpy()
    np.testing.assert_allclose(fitted.predictions["a"][SEEDS.index(SEED)], expected, rtol=1e-9)
