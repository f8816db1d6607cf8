import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn.functional import cross_entropy

from mtlbook.architectures.joint_many_task import (
    JointManyTask,
    SuccessiveRegularisation,
    anchored,
    distance,
    expected_label,
)
from mtlbook.architectures.low_supervision import LowSupervision
from mtlbook.data import Holdout, MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.layers.tagging import Masked, TagHead, Words
from mtlbook.layers.window import Window
from mtlbook.randomness import generator
from mtlbook.tasks import IGNORED, Task
from mtlbook.training.fit import fit
from mtlbook.training.minibatches import Minibatches
from mtlbook.training.sampling import Mixed, Passes
from mtlbook.training.settings import Settings
from tests.equal import exactly

NAMES: tuple[str, ...] = ("tag", "chunk", "parse", "relatedness", "entailment", "sentiment")
COUNTS: tuple[int, ...] = (4, 3, 5, 3, 2, 3)
WORD, UNITS, LABEL, LENGTH = 3, 5, 2, 6

pytestmark = pytest.mark.usefixtures("double")


def network(
    tasks: int = 3,
    *,
    labels: bool = True,
    shortcuts: bool = True,
    vertical: bool = True,
    build: type[JointManyTask] = JointManyTask,
) -> JointManyTask:
    upper = UNITS * vertical + WORD * shortcuts + LABEL * labels

    def stages() -> list[nn.Module]:
        widths = [WORD, *[upper] * (tasks - 1)]
        return [Words(9, WORD), *(Masked(Window(width, UNITS)) for width in widths)]

    heads = {
        name: TagHead(UNITS, count) for name, count in zip(NAMES, COUNTS[:tasks], strict=False)
    }
    counts = dict(zip(NAMES, COUNTS[: tasks - 1], strict=False)) if labels else None
    return build(stages, heads, labels=counts, width=LABEL, shortcuts=shortcuts, vertical=vertical)


def sentences(rows: int = 7) -> dict[str, Tensor]:
    source = generator(0, "sentences")
    mask = torch.arange(LENGTH) < torch.randint(2, LENGTH + 1, (rows, 1), generator=source)
    tokens = torch.randint(9, (rows, LENGTH, 1), generator=source)
    return {"tokens": tokens, "mask": mask}


def by_loop(model: JointManyTask, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same network sentence by sentence, word by word, label by label."""
    names = list(model.heads)
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    table = model.get_parameter("embedding.vectors.weight")
    for tokens, mask in zip(inputs["tokens"], inputs["mask"], strict=True):
        words = [table[int(token)] for token in tokens]
        states: list[Tensor] = []
        labels = [torch.zeros(LABEL)] * len(words)
        for place, name in enumerate(names):
            weight, bias = (model.get_parameter(f"levels.{place}.layer.layers.0.{own}")
                            for own in ("weight", "bias"))  # fmt: skip
            head = model.get_submodule(f"heads.{name}.linear")
            assert isinstance(head, nn.Linear)
            entering = []
            for t, word in enumerate(words):
                parts = [word]
                if place:
                    parts = [states[t]] * model.vertical + [word] * model.shortcuts
                    parts += [labels[t]] * bool(model.labels)
                entering.append(torch.cat(parts))
            outside = torch.zeros_like(entering[0])
            seen = [own if inside else outside for own, inside in zip(entering, mask, strict=True)]
            around = [outside, *seen, outside]
            states = []
            for t, inside in enumerate(mask):
                own = torch.tanh(weight @ torch.cat(around[t : t + 3]) + bias)
                states.append(own if inside else torch.zeros_like(own))
            scores = [head.weight @ own + head.bias for own in states]
            found[name].append(torch.stack(scores, 1))
            if name in model.labels:
                for t, own in enumerate(scores):
                    chance = torch.exp(own) / torch.exp(own).sum()
                    for j, p in enumerate(chance):
                        labels[t] = labels[t] + p * model.labels[name][j]
    return {name: torch.stack(own) for name, own in found.items()}


# The network ------------------------------------------------------------------------------------


@pytest.mark.parametrize("tasks", [2, 6])
@pytest.mark.parametrize(
    ("labels", "shortcuts", "vertical"),
    [
        (True, True, True),
        (False, True, True),
        (True, False, True),
        (True, True, False),
        (False, False, True),
        (True, False, False),
    ],
)
def test_the_network_is_the_loop_over_words_and_labels(tasks, labels, shortcuts, vertical):
    model = network(tasks, labels=labels, shortcuts=shortcuts, vertical=vertical)
    inputs = sentences(3)
    found, looped = model(inputs), by_loop(model, inputs)
    assert list(found) == list(NAMES[:tasks])
    for name in found:
        exactly(found[name], looped[name])
    parameters = list(model.parameters())
    gradients = [torch.autograd.grad(total(made), parameters) for made in (found, looped)]
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-11, atol=1e-11)


def test_without_label_embeddings_and_shortcuts_it_is_low_supervision():
    """Section 6.4: each task's head upon its own layer of one network."""
    model, inputs = network(labels=False, shortcuts=False), sentences()
    stages = [nn.Sequential(model.embedding, model.levels[0]), *model.levels[1:]]
    at = {name: place for place, name in enumerate(model.heads, start=1)}
    low = LowSupervision(lambda: stages, dict(model.heads), at=at)
    predictions, expected = model(inputs), low(inputs)
    for name, own in expected.items():
        exactly(predictions[name], own)
    shared = list(model.parameters())
    exactly(
        *(
            torch.cat([own.flatten() for own in torch.autograd.grad(total(made), shared)])
            for made in (predictions, expected)
        )
    )


def total(predictions: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([own.square().sum() for own in predictions.values()]).sum()


def test_one_task_is_a_single_network():
    model, inputs = network(1, labels=False), sentences()
    single = nn.Sequential(model.embedding, model.levels[0], model.heads["tag"])
    exactly(model(inputs)["tag"], single(inputs))
    assert list(model.below("tag")) == ["embedding.vectors.weight"]


@pytest.mark.parametrize("labels", [True, False])
def test_without_shortcuts_and_vertical_connections_labels_alone_go_up(labels):
    model, inputs = network(shortcuts=False, vertical=not labels, labels=labels), sentences()
    before = model(inputs)["parse"]
    with torch.no_grad():
        for own in model.labels.values():
            own.zero_()
    moved = (model(inputs)["parse"] - before).abs().max()
    assert bool(moved > 0) == labels


def test_equal_embeddings_of_all_labels_tell_nothing():
    """Σ p_j ℓ = ℓ whatever p is: the head below receives no gradient from above."""
    model, inputs = network(2, shortcuts=False, vertical=False), sentences()
    with torch.no_grad():
        model.labels["tag"].copy_(model.labels["tag"][:1].expand(4, -1))
    gradient = torch.autograd.grad(
        model(inputs)["chunk"].square().sum(), list(model.heads["tag"].parameters())
    )
    assert max(float(own.abs().max()) for own in gradient) < 1e-14


def test_a_task_leaves_the_levels_above_it_alone():
    model, inputs = network(), sentences()
    loss = model(inputs)["chunk"].square().sum()
    named = dict(model.named_parameters())
    gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    untouched = {name for name, own in zip(named, gradients, strict=True) if own is None}
    above = ("levels.2", "heads.parse", "labels.chunk")
    assert untouched == {name for name in named if name.startswith(above)}


@pytest.mark.parametrize("upto", NAMES[:3])
def test_levels_above_the_task_that_is_asked_for_are_not_computed(upto):
    model, inputs = network(), sentences()
    every, some = model(inputs), model(inputs, upto)
    assert list(some) == list(every)[: NAMES.index(upto) + 1]
    for name, own in some.items():
        assert torch.equal(own, every[name])


def test_what_stands_outside_the_mask_makes_no_difference():
    model, inputs = network(), sentences()
    other = inputs | {"tokens": inputs["tokens"].where(inputs["mask"].unsqueeze(-1), 8)}
    for name, own in model(inputs).items():
        again = model(other)[name]
        known = inputs["mask"].unsqueeze(1).expand_as(own)
        assert torch.equal(own[known], again[known])


def test_labels_of_whole_examples_stand_at_every_position():
    """As relatedness of two sentences below entailment."""
    pooled = nn.Sequential(TagHead(UNITS, 4), nn.AdaptiveMaxPool1d(1), nn.Flatten())
    upper = Masked(Window(UNITS + WORD + LABEL, UNITS))
    model = JointManyTask(
        lambda: [Words(9, WORD), Masked(Window(WORD, UNITS)), upper],
        {"tag": pooled, "chunk": TagHead(UNITS, 3)},
        labels={"tag": 4},
        width=LABEL,
    )
    inputs = sentences()
    x = model.embedding(inputs)
    states = model.levels[0](x)
    label = expected_label(pooled(states), model.labels["tag"])
    parts = torch.cat([states["states"], x["states"], torch.stack([label] * LENGTH, 1)], -1)
    entering = {"states": parts, "mask": inputs["mask"]}
    exactly(model(inputs)["chunk"], model.heads["chunk"](upper(entering)))


def test_features_without_positions():
    stages = partial(dense_stages, 4, 6)
    heads = {name: nn.Linear(6, count) for name, count in zip("abc", COUNTS, strict=False)}
    model = JointManyTask(stages, heads, labels={"b": 3}, width=LABEL)
    x = torch.randn(7, 4)
    first = model.levels[0](x)
    second = model.levels[1](torch.cat([first, x], 1))
    label = model.heads["b"](second).softmax(1) @ model.labels["b"]
    third = model.levels[2](torch.cat([second, x, label], 1))
    exactly(model(x)["c"], model.heads["c"](third))


def dense_stages(inputs: int, units: int) -> list[nn.Module]:
    widths = (inputs, units + inputs, units + inputs + LABEL)
    return [nn.Identity(), *(nn.Sequential(nn.Linear(w, units), nn.Tanh()) for w in widths)]


def test_label_embeddings_start_as_in_the_paper():
    model = network()
    for name, count in zip(NAMES, COUNTS[:2], strict=False):
        bound = (6 / (count + LABEL)) ** 0.5
        assert 0.3 * bound < float(model.labels[name].detach().abs().max()) <= bound


# The penalty --------------------------------------------------------------------------------------


def test_what_a_level_stands_upon():
    """θ_chk holds the embeddings of POS labels, θ_POS does not (section 3.3 of the paper)."""
    model = network()
    parts = {name: {own.rsplit(".", 1)[0] for own in model.below(name)} for name in NAMES[:3]}
    assert parts["tag"] == {"embedding.vectors"}
    assert parts["chunk"] == {"embedding.vectors", "levels.0.layer.layers.0", "heads.tag.linear"}
    assert parts["parse"] == parts["chunk"] | {
        "levels.1.layer.layers.0",
        "heads.chunk.linear",
        "labels",
    }
    assert "labels.tag" in model.below("parse")
    assert "labels.chunk" not in model.below("parse")


@dataclass(frozen=True)
class Step:
    tasks: tuple[str, ...]
    earlier: Mapping[str, Tensor] = field(default_factory=dict)


STRENGTHS = SuccessiveRegularisation(0.7, 0.3, 0.11, 0.05)


def moved(model: nn.Module) -> dict[str, Tensor]:
    """θ′ at some distance from the parameters."""
    return {
        name: own.detach() + 0.1 * torch.randn(own.shape, generator=generator(0, name))
        for name, own in model.named_parameters()
    }


def test_the_penalty_by_hand():
    model = network(2)
    earlier = moved(model)
    squares = {n: (p - earlier[n]).square().sum() for n, p in model.named_parameters()}
    weights = {n: p.square().sum() for n, p in model.named_parameters()}
    anchor = 0.7 * (
        squares["embedding.vectors.weight"]
        + squares["levels.0.layer.layers.0.weight"]
        + squares["levels.0.layer.layers.0.bias"]
    ) + 0.3 * (squares["heads.tag.linear.weight"] + squares["heads.tag.linear.bias"])
    decay = 0.11 * (
        weights["levels.0.layer.layers.0.weight"] + weights["levels.1.layer.layers.0.weight"]
    )
    decay = decay + 0.05 * (
        weights["heads.tag.linear.weight"] + weights["heads.chunk.linear.weight"]
    )
    exactly(STRENGTHS(model, Step(("chunk",), earlier)), anchor + decay)


@pytest.mark.parametrize("task", NAMES[:3])
def test_the_gradient_of_the_penalty_is_that_of_finite_differences(task):
    model = network()
    named = {name: own.detach().clone() for name, own in model.named_parameters()}
    earlier = moved(model)

    def penalty(*values: Tensor) -> Tensor:
        own = dict(zip(named, values, strict=True))
        wrapped = Wrapped(model, Step((task,), earlier))
        return functional_call(wrapped, {f"model.{n}": v for n, v in own.items()}, ())

    values = tuple(own.requires_grad_() for own in named.values())
    assert torch.autograd.gradcheck(penalty, values)


class Wrapped(nn.Module):
    def __init__(self, model: JointManyTask, step: Step) -> None:
        super().__init__()
        self.model, self.step = model, step

    def forward(self) -> Tensor:
        return STRENGTHS(self.model, self.step)


def test_a_step_of_the_penalty_and_the_proximal_step():
    """Both go from θ towards θ′; the proximal step is where the penalty's own gradient vanishes."""
    theta, before = torch.randn(4), torch.randn(4)
    rate, delta = 0.3, 0.8
    new = anchored({"a": theta}, {"a": before}, rate, delta)["a"].requires_grad_()
    objective = (new - theta).square().sum() / 2 + rate * delta * distance(
        {"a": new}, {"a": before}
    )
    exactly(torch.autograd.grad(objective, new)[0], torch.zeros(4))
    explicit = theta - rate * 2 * delta * (theta - before)
    small = anchored({"a": theta}, {"a": before}, rate, 1e-6)["a"]
    torch.testing.assert_close(small, theta - rate * 2e-6 * (theta - before), rtol=0, atol=1e-11)
    assert (new - before).abs().max() < (theta - before).abs().max()
    assert (explicit - before).abs().max() < (new - before).abs().max()


def test_a_delta_of_zero_changes_nothing_and_an_infinite_one_everything():
    theta, before = {"a": torch.randn(4)}, {"a": torch.randn(4)}
    assert torch.equal(anchored(theta, before, 0.1, 0.0)["a"], theta["a"])
    assert torch.equal(anchored(theta, before, 0.1, inf)["a"], before["a"])


# Training -----------------------------------------------------------------------------------------

SEEDS = [3, 5]
TASKS = [Task.tagging(name, count) for name, count in zip(NAMES, COUNTS[:3], strict=False)]
SETTINGS = Settings(
    steps=18,
    sampler=Passes(8),
    optimiser=partial(torch.optim.SGD, lr=0.3),
    split=Holdout(24, 8, 8, labels={"chunk": 16, "parse": 8}),
    stopping=None,
    device="cpu",
)


def corpus() -> MultiTaskData:
    inputs = sentences(40)
    targets = {
        task.name: torch.randint(
            task.outputs, (40, LENGTH), generator=generator(0, task.name)
        ).where(inputs["mask"], IGNORED)
        for task in TASKS
    }
    return MultiTaskData.multi_label(TASKS, inputs, targets)


def build(data: MultiTaskData, seed: int) -> nn.Module:
    return network()


def trained(**changed: Any) -> dict[str, Tensor]:
    settings = Settings(**(vars(SETTINGS) | changed))
    return fit(build, corpus(), seeds=SEEDS, settings=settings).model(SEEDS[0]).state_dict()


def by_hand(
    penalty: SuccessiveRegularisation | None = None, *, delta: float = 0.0, frozen: bool = False
) -> dict[str, Tensor]:
    """Passes of 3, 2 and 1 gradient steps, each followed by a proximal one on the lower levels."""
    data, seed = corpus(), SEEDS[0]
    split = SETTINGS.split.draw(data, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(seed, "initialisation").initial_seed())
        model = network()
    batches = {
        task.name: Minibatches([split.train[split.labelled[task.name][split.train]]], 8, [seed],
                               task.name)
        for task in TASKS
    }  # fmt: skip
    turns = ([TASKS[0]] * 3 + [TASKS[1]] * 2 + [TASKS[2]]) * 3
    earlier: dict[str, Tensor] = {}
    assert isinstance(data.inputs, dict)
    for number, task in enumerate(turns):
        if number % 6 in (0, 3, 5):
            earlier = {name: own.detach().clone() for name, own in model.named_parameters()}
        rows, lower = batches[task.name].take(1)[0, 0], model.below(task.name)
        predicted = model({name: own[rows] for name, own in data.inputs.items()}, task.name)
        loss = task.loss(predicted[task.name], data.targets[task.name][rows]).mean()
        if penalty is not None:
            loss = loss + penalty.of_pass(model, earlier, task.name)
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for name, own in model.named_parameters():
                if own.grad is not None and not (frozen and name in lower):
                    own -= 0.3 * own.grad
            for name, own in anchored(lower, earlier, 0.3, delta).items():
                lower[name].copy_(own)
    return {name: own.detach() for name, own in model.named_parameters()}


def test_an_infinite_delta_freezes_the_lower_levels_exactly():
    held, frozen = by_hand(delta=inf), by_hand(frozen=True)
    for name, own in frozen.items():
        assert torch.equal(held[name], own), name
    nearly = by_hand(delta=1e9)
    for name, own in frozen.items():
        torch.testing.assert_close(nearly[name], own, rtol=0, atol=1e-7)


def test_a_delta_of_zero_is_plain_sequential_training_exactly():
    none = SuccessiveRegularisation(0.0, 0.0, 0.0, 0.0)
    plain, zero = trained(), trained(regulariser=none)
    for name, own in plain.items():
        assert torch.equal(own, zero[name]), name
    some = trained(regulariser=SuccessiveRegularisation(0.5, 0.5, 0.0, 0.0))
    assert not torch.equal(some["embedding.vectors.weight"], plain["embedding.vectors.weight"])


def test_the_lower_levels_move_less_the_larger_delta():
    """In the second task's first pass, from the values that it begins with."""
    weight = "levels.0.layer.layers.0.weight"
    before = trained(steps=3)[weight]
    moved = [
        trained(steps=5, regulariser=SuccessiveRegularisation(delta, delta))[weight] - before
        for delta in (0.0, 0.1, 1.0)
    ]
    assert moved[0].norm() > moved[1].norm() > moved[2].norm() > 0


@pytest.mark.parametrize("penalty", [None, STRENGTHS], ids=["plain", "successive"])
def test_fit_takes_the_steps_of_a_loop_by_hand(penalty):
    """θ′ is copied when a task's pass begins, of each task anew."""
    expected = by_hand(penalty)
    for vectorise in (True, False):
        found = trained(regulariser=penalty, vectorise=vectorise)
        for name, own in expected.items():
            torch.testing.assert_close(found[name], own, rtol=1e-9, atol=1e-12)


def test_replicas_all_at_once_equal_one_after_another():
    models = [network() for _ in range(3)]
    parameters, _ = stack_module_state(models)
    inputs = sentences()
    tokens = torch.stack([inputs["tokens"].roll(n, 0) for n in range(3)])
    gold = torch.randint(3, (7, LENGTH), generator=generator(0, "gold"))

    def loss(own: dict[str, Tensor], rows: Tensor) -> Tensor:
        predicted = functional_call(models[0], own, ({"tokens": rows, "mask": inputs["mask"]},))
        return cross_entropy(predicted["chunk"], gold) + predicted["parse"].square().sum()

    together = vmap(grad(loss))(parameters, tokens)
    for number, model in enumerate(models):
        alone = grad(loss)(dict(model.named_parameters()), tokens[number])
        for name, expected in alone.items():
            torch.testing.assert_close(together[name][number], expected, rtol=1e-11, atol=1e-12)


def test_its_state_is_ordinary():
    model, other, inputs = network(), network(), sentences()
    assert not torch.equal(other(inputs)["parse"], model(inputs)["parse"])
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(inputs)["parse"], model(inputs)["parse"])


COMPILED = """
import torch
from torch import nn
from mtlbook.architectures.joint_many_task import JointManyTask

stages = lambda: [nn.Identity(), nn.Linear(3, 4), nn.Linear(9, 4)]
heads = {"tag": nn.Linear(4, 5), "chunk": nn.Linear(4, 2)}
model = JointManyTask(stages, heads, labels={"tag": 5}, width=2)
x = torch.ones(6, 3)
compiled = torch.compile(model, backend="eager", fullgraph=True)
torch.testing.assert_close(compiled(x)["chunk"], model(x)["chunk"])
with torch.autocast("cpu", dtype=torch.bfloat16):
    model(x)["chunk"].float().sum().backward()
assert model.labels["tag"].grad is not None
"""


def test_it_compiles_whole_and_trains_under_autocast():
    """In a process of its own: the tests' checks of shapes at run time cannot be compiled."""
    subprocess.run([sys.executable, "-c", COMPILED], check=True)


# What is refused ----------------------------------------------------------------------------------


def made(tasks: int = 2, **options: Any) -> JointManyTask:
    stages = [nn.Identity(), *(nn.Linear(4, 4) for _ in range(2))]
    heads = {name: nn.Linear(4, 3) for name in NAMES[:tasks]}
    return JointManyTask(lambda: stages, heads, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": 3}, "3 stages for 3 tasks: make the embedding and one encoder"),
        ({"labels": {"parse": 3}, "width": 2}, r"labels names \['parse'\]"),
        ({"labels": {"chunk": 3}, "width": 2}, "no level above could take"),
        ({"labels": {"tag": 3}}, "width 0"),
        ({"labels": {"tag": 0}, "width": 2}, "at least one of each"),
        ({"shortcuts": False, "vertical": False}, "Nothing enters the level of 'chunk'"),
    ],
)
def test_networks_that_cannot_be_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        made(**options)


def test_layers_in_place_of_a_function_are_refused():
    with pytest.raises(UsageError, match="makes new layers at each call"):
        JointManyTask(nn.Linear(2, 2), {"tag": nn.Identity()})  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="at least one head"):
        JointManyTask(lambda: [nn.Identity()], {})


def test_a_head_with_another_number_of_labels_is_refused():
    model = JointManyTask(
        lambda: [nn.Identity(), nn.Linear(4, 4), nn.Linear(10, 4)],
        {"tag": nn.Linear(4, 3), "chunk": nn.Linear(4, 3)},
        labels={"tag": 4},
        width=2,
    )
    with pytest.raises(UsageError, match="gives 3 labels, and there are embeddings of 4"):
        model(torch.ones(2, 4))


def test_unknown_tasks_are_refused():
    model = network()
    with pytest.raises(UsageError, match="no task 'role'"):
        model(sentences(), "role")
    with pytest.raises(UsageError, match="no task 'role'"):
        model.below("role")


def test_impossible_strengths_are_refused():
    for values in ((-1.0, 0.0), (inf, 0.0)):
        with pytest.raises(UsageError, match="finite ones from 0 on"):
            SuccessiveRegularisation(*values)
    with pytest.raises(UsageError, match="numbers from 0 on"):
        anchored({}, {}, 0.1, -1.0)


def test_a_step_about_several_tasks_or_another_network_is_refused():
    with pytest.raises(UsageError, match=r"is about \['tag', 'chunk'\]"):
        STRENGTHS(network(), Step(("tag", "chunk")))
    with pytest.raises(UsageError, match="this step of a Linear"):
        STRENGTHS(nn.Linear(2, 2), Step(("tag",)))
    with pytest.raises(UsageError, match="passes of one task each"):
        trained(regulariser=STRENGTHS, sampler=Mixed(8))
