"""What every combiner must satisfy, whatever its rule."""

import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from mtlbook.balancing.imtl import IMTL
from mtlbook.balancing.mgda import MGDA
from mtlbook.balancing.pcgrad import PCGrad
from mtlbook.balancing.upgrad import UPGrad
from mtlbook.combiner import Combiner, Evidence, RandomCombiner
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.tasks import Task
from mtlbook.weighting.auto_lambda import AutoLambda
from mtlbook.weighting.dynamic_weight_average import DynamicWeightAverage
from mtlbook.weighting.famo import FAMO
from mtlbook.weighting.gradnorm import GradNorm
from mtlbook.weighting.linear_scalarisation import LinearScalarisation
from mtlbook.weighting.random_weights import RandomWeights
from mtlbook.weighting.uncertainty import UncertaintyWeighting

NAMES = ("colour", "depth", "edges", "form")


def uncertainty(names: Sequence[str]) -> UncertaintyWeighting:
    tasks = [Task.classification(n, 3) if n == "edges" else Task.regression(n) for n in names]
    return UncertaintyWeighting(tasks, 0.3)


DETERMINISTIC: dict[str, Callable[[Sequence[str]], Combiner]] = {
    "sum": Combiner,
    "linear": lambda names: LinearScalarisation({n: 0.5 + NAMES.index(n) for n in names}),
    "uncertainty": uncertainty,
    "DWA": lambda names: DynamicWeightAverage(names, period=2),
    "GradNorm": lambda names: GradNorm(names, alpha=0.7),
    "FAMO": lambda names: FAMO(names, decay=0.1),
    "Auto-λ": lambda names: AutoLambda(names, names[:1], stream="held out", step_size=0.1),
    "MGDA": MGDA,
    "UPGrad": UPGrad,
    "IMTL": IMTL,
}
RANDOM: dict[str, Callable[[Sequence[str]], Combiner]] = {"RLW": RandomWeights, "PCGrad": PCGrad}
RULES = DETERMINISTIC | RANDOM

every_rule = pytest.mark.parametrize("rule", RULES)
every_deterministic_rule = pytest.mark.parametrize("rule", DETERMINISTIC)
pytestmark = pytest.mark.usefixtures("double")


def draw(*shape: int, purpose: str) -> Tensor:
    return torch.randn(*shape, generator=generator(0, purpose), dtype=torch.float64)


def steps(number: int, *replicas: int, tasks: int = len(NAMES)) -> list[tuple[Evidence, Tensor]]:
    """The evidence of some steps, and the losses after each; everything has its labels."""
    found = []
    for step in range(number):
        jacobian = draw(*replicas, tasks, 6, purpose=f"jacobian {step}")
        other = draw(*replicas, tasks, 6, purpose=f"other jacobian {step}")
        losses = draw(*replicas, tasks, purpose=f"losses {step}").exp()
        evidence = Evidence(
            losses,
            torch.ones_like(losses, dtype=torch.bool),
            progress=step / number,
            gramian=jacobian @ jacobian.mT,
            cross=jacobian @ other.mT,
        )
        found.append((evidence, losses * (1 + draw(*losses.shape, purpose=f"{step}").exp()) / 2))
    return found


def part(evidence: Evidence, chosen: list[int]) -> Evidence:
    """The evidence of some tasks, in some order."""
    assert evidence.gramian is not None
    assert evidence.cross is not None
    return replace(
        evidence,
        losses=evidence.losses[..., chosen],
        labelled=evidence.labelled[..., chosen],
        gramian=evidence.gramian[..., chosen, :][..., chosen],
        cross=evidence.cross[..., chosen, :][..., chosen],
    )


def of_replica(evidence: Evidence, number: int) -> Evidence:
    fields = ("losses", "labelled", "gramian", "cross")
    return replace(evidence, **{name: getattr(evidence, name)[number] for name in fields})


def train(combiner: Combiner, course: list[tuple[Evidence, Tensor]]) -> Tensor:
    """The weights of each step, its trained parameters following the losses meanwhile."""
    found = []
    for evidence, after in course:
        weights = combiner.weigh(evidence)
        parameters = list(combiner.parameters())
        if parameters:
            gradients = torch.autograd.grad(combiner(evidence.losses, evidence).sum(), parameters)
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter -= 0.1 * gradient
        if combiner.losses_after:
            combiner.after(evidence, after)
        with torch.no_grad():
            slopes = combiner.transform(evidence.losses + 1) - combiner.transform(evidence.losses)
        found.append(weights * slopes)
    return torch.stack(found)


# The rules ----------------------------------------------------------------------------------------


@every_deterministic_rule
def test_the_order_of_the_tasks_does_not_matter(rule):
    order = [2, 0, 3, 1]
    course = steps(5)
    shuffled = [(part(evidence, order), after[order]) for evidence, after in course]
    make = RULES[rule]
    if rule == "Auto-λ":  # the same primary task in both orders
        make = lambda names: AutoLambda(names, ["edges"], stream="held out", step_size=0.1)  # noqa: E731
    expected = train(make(NAMES), course)[:, order]
    found = train(make([NAMES[n] for n in order]), shuffled)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rule", RANDOM)
def test_the_order_of_the_tasks_does_not_matter_in_law(rule):
    evidence, order = steps(1)[0][0], [2, 0, 3, 1]

    def mean(of: Evidence, seed: int) -> Tensor:
        combiner = RULES[rule](NAMES).replicated([seed])
        alone = replace(
            of, **{k: getattr(of, k)[None] for k in ("losses", "labelled", "gramian", "cross")}
        )
        return torch.stack([combiner.weigh(alone)[0] for _ in range(500)]).mean(0)

    found, expected = mean(part(evidence, order), 1), mean(evidence, 2)[order]
    # Two independent means of 500 draws with standard deviations below ½.
    torch.testing.assert_close(found, expected, rtol=0, atol=5 * 0.5 * (2 / 500) ** 0.5)


@every_rule
def test_a_task_alone_has_its_own_gradient(rule):
    combiner = RULES[rule](NAMES[:1])
    alone = [(part(evidence, [0]), after[:1]) for evidence, after in steps(4)]
    weights = torch.stack([combiner.weigh(evidence) for evidence, _ in alone])
    expected = {"linear": 0.5, "Auto-λ": weights[:, 0]}.get(rule, 1.0)
    torch.testing.assert_close(weights[:, 0], torch.ones(4) * expected, rtol=1e-12, atol=0)


@every_rule
def test_equal_tasks_keep_their_common_direction(rule):
    """With equal losses and gradients g the step is along g, and not against it."""
    combiner, gradient = RULES[rule](NAMES), draw(6, purpose="gradient")
    jacobian = gradient.expand(4, 6)
    gramian = jacobian @ jacobian.mT
    losses, known = torch.full((4,), 2.0), torch.ones(4, dtype=torch.bool)
    for _ in range(3):
        weights = combiner.weigh(Evidence(losses, known, gramian=gramian, cross=gramian))
        if combiner.losses_after:
            combiner.after(Evidence(losses, known), losses / 2)
        assert float(weights.sum()) > 0
        if rule in ("DWA", "GradNorm", "FAMO", "UPGrad", "PCGrad", "IMTL"):
            torch.testing.assert_close(weights, weights.mean().expand(4))


# Replicas -----------------------------------------------------------------------------------------


@every_rule
def test_replicas_are_as_one_by_one(rule):
    """Weights, and state after some steps, with other labels missing in each replica."""
    seeds = [3, 100, 3, 8]
    course = steps(6, 4)
    for step, (evidence, _) in enumerate(course):
        evidence.labelled.copy_(draw(4, 4, purpose=f"labels {step}") > -0.8)
    together = RULES[rule](NAMES).replicated(seeds)
    found = train(together, course)
    for number, seed in enumerate(seeds):
        alone = RULES[rule](NAMES).replicated([seed]).replica(0)
        own = [(of_replica(evidence, number), after[number]) for evidence, after in course]
        torch.testing.assert_close(found[:, number], train(alone, own), rtol=1e-12, atol=1e-14)
        state = together.replica(number).state_dict()
        for name, values in alone.state_dict().items():
            torch.testing.assert_close(values, state[name], rtol=1e-12, atol=1e-14, equal_nan=True)


@every_rule
def test_a_seed_does_not_depend_on_the_seeds_beside_it(rule):
    """Defect 5: its neighbours see other losses, are others, and stand elsewhere."""
    course, other = steps(4, 3), steps(4, 2)
    found = train(RULES[rule](NAMES).replicated([7, 1, 2]), course)[:, 0]
    moved = []
    for (evidence, after), (beside, after_beside) in zip(course, other, strict=True):
        both = {
            name: torch.stack([getattr(beside, name)[0], getattr(evidence, name)[0]])
            for name in ("losses", "labelled", "gramian", "cross")
        }
        moved.append((replace(evidence, **both), torch.stack([after_beside[0], after[0]])))
    again = train(RULES[rule](NAMES).replicated([5, 7]), moved)[:, 1]
    torch.testing.assert_close(found, again, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("rule", RANDOM)
def test_seeds_draw_their_own_numbers_and_a_plain_loop_those_of_its_seed(rule):
    course = steps(3)
    combiner = {"RLW": RandomWeights, "PCGrad": PCGrad}[rule]
    for seed in (0, 11):
        plain = train(combiner(NAMES, seed=seed), course)
        torch.testing.assert_close(
            plain, train(RULES[rule](NAMES).replicated([seed]).replica(0), course)
        )
    assert not torch.equal(train(combiner(NAMES, seed=0), course), plain)


def test_the_given_combiner_stays_as_it_was():
    combiner = uncertainty(NAMES)
    copies = combiner.replicated([0, 1])
    with torch.no_grad():
        for parameter in copies.parameters():
            parameter.add_(1)
    assert combiner.log_variances.shape == (4,)
    np.testing.assert_array_equal(combiner.log_variances.detach(), 0.3)
    frozen = uncertainty(NAMES).requires_grad_(False).replicated([0, 1])
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


# Labels -------------------------------------------------------------------------------------------


@every_rule
def test_a_task_without_labels_has_no_weight_and_changes_nothing(rule):
    """Whatever its loss, gradient and place: not a number, at the worst."""
    course, spoilt = steps(5), steps(5)
    for (evidence, after), (spoilt_evidence, spoilt_after) in zip(course, spoilt, strict=True):
        for own in (evidence, spoilt_evidence):
            own.labelled[1] = False
        assert spoilt_evidence.gramian is not None
        assert spoilt_evidence.cross is not None
        spoilt_evidence.losses[1] = 1e6
        spoilt_evidence.gramian[1] = spoilt_evidence.gramian[:, 1] = 1e3
        spoilt_evidence.cross[1] = 1e3
        spoilt_after[1] = torch.nan
        after[1] = 5.0
    found, expected = train(RULES[rule](NAMES), spoilt), train(RULES[rule](NAMES), course)
    assert not found[:, 1].any()
    assert torch.equal(found, expected)
    if rule in DETERMINISTIC:
        without = [(part(evidence, [0, 2, 3]), after[[0, 2, 3]]) for evidence, after in course]
        names = [NAMES[n] for n in (0, 2, 3)]
        alone = train(RULES[rule](names), without)
        torch.testing.assert_close(found[:, [0, 2, 3]], alone, rtol=1e-9, atol=1e-12)


@every_rule
def test_a_batch_without_any_label_asks_for_no_step(rule):
    combiner = RULES[rule](NAMES)
    (first, after), (second, _) = steps(2)
    nothing = replace(first, labelled=torch.zeros(4, dtype=torch.bool))
    assert not combiner.weigh(nothing).any()
    losses = first.losses.clone().requires_grad_()
    value = combiner(losses, nothing)
    assert float(value.detach()) == 0
    value.backward()
    assert losses.grad is not None
    assert not losses.grad.any()
    assert all(p.grad is None or not p.grad.any() for p in combiner.parameters())
    if combiner.losses_after:
        combiner.after(nothing, after)
    assert torch.isfinite(combiner.weigh(second)).all()


# State --------------------------------------------------------------------------------------------


@every_rule
@pytest.mark.parametrize("way", ["state_dict", "pickle"])
def test_training_continues_from_its_state(rule, way):
    course = steps(7, 2)
    through = RULES[rule](NAMES).replicated([4, 5])
    train(through, course[:3])
    if way == "pickle":
        resumed = pickle.loads(pickle.dumps(through))
    else:
        resumed = RULES[rule](NAMES).replicated([0, 1])
        resumed.load_state_dict(through.state_dict())
    assert torch.equal(train(resumed, course[3:]), train(through, course[3:]))


@every_rule
def test_nothing_is_remembered_in_evaluation_mode(rule):
    """Defect 6: what is only looked at does not move the weights."""
    course = steps(3)
    combiner = RULES[rule](NAMES)
    combiner.weigh(course[0][0])
    before = {name: values.clone() for name, values in combiner.state_dict().items()}
    combiner.eval()
    for evidence, _ in course[1:]:
        combiner.weigh(evidence)
    for name, values in combiner.state_dict().items():
        torch.testing.assert_close(values, before[name], rtol=0, atol=0, equal_nan=True)


@every_rule
def test_nothing_is_kept_in_double_precision_unasked(rule):
    """Defect 12: there are devices without it."""
    torch.set_default_dtype(torch.float32)
    combiner = RULES[rule](NAMES)
    assert all(values.dtype != torch.float64 for values in combiner.state_dict().values())
    for evidence, after in steps(3):
        weights = combiner.weigh(evidence)
        assert weights.dtype == torch.float64
        if combiner.losses_after:
            combiner.after(evidence, after)


# The module ---------------------------------------------------------------------------------------


@every_rule
def test_the_loss_is_the_weighted_sum(rule):
    evidence, _ = steps(1, 3)[0]
    evidence.labelled[1, 2] = False
    first, second = (RULES[rule](NAMES).replicated([0, 1, 2]) for _ in range(2))
    losses = evidence.losses.clone().requires_grad_()
    value = first(losses, evidence)
    assert value.shape == (3,)
    weights = second.weigh(evidence)
    assert not weights.requires_grad
    expected = (weights * second.transform(evidence.losses)).sum(-1)
    torch.testing.assert_close(value, expected)
    value.sum().backward()
    assert losses.grad is not None
    assert float(losses.grad[1, 2]) == 0
    shape = second.transform(evidence.losses + 1) - second.transform(evidence.losses)
    torch.testing.assert_close(losses.grad, (weights * shape).detach())


def test_losses_that_are_no_numbers_count_for_nothing_without_a_label():
    for rule in ("sum", "uncertainty", "DWA"):
        combiner = RULES[rule](NAMES)
        losses = torch.tensor([1.0, torch.nan, 2.0, 3.0], requires_grad=True)
        labelled = torch.tensor([True, False, True, True])
        combiner(losses, Evidence(losses.detach(), labelled)).backward()
        assert losses.grad is not None
        assert torch.isfinite(losses.grad).all()
        assert all(
            p.grad is not None and torch.isfinite(p.grad).all() for p in combiner.parameters()
        )


@pytest.mark.parametrize("rule", ["MGDA", "UPGrad", "PCGrad", "IMTL", "GradNorm"])
def test_losses_alone_do_not_give_gradients(rule):
    with pytest.raises(UsageError, match="weighs by the tasks' gradients"):
        RULES[rule](NAMES)(torch.ones(4))
    with pytest.raises(UsageError, match="needs the Gramian"):
        RULES[rule](NAMES).weigh(Evidence(torch.ones(4), torch.ones(4, dtype=torch.bool)))


def test_a_look_ahead_cannot_be_guessed():
    with pytest.raises(UsageError, match="looks ahead to the stream 'held out'"):
        RULES["Auto-λ"](NAMES)(torch.ones(4))
    with pytest.raises(UsageError, match="needs the cross-Gramian"):
        RULES["Auto-λ"](NAMES).weigh(Evidence(torch.ones(4), torch.ones(4, dtype=torch.bool)))


def test_tasks_go_by_distinct_names():
    assert Combiner([Task.regression("a"), "b"]).tasks == ("a", "b")
    with pytest.raises(UsageError, match="at least one task"):
        Combiner([])
    with pytest.raises(UsageError, match="holds one twice"):
        MGDA(["a", "b", "a"])


def test_a_rule_may_hold_another():
    """Replicas and seeds reach the combiners inside a combiner."""

    class Half(Combiner):
        def __init__(self, inner: Combiner) -> None:
            super().__init__(inner.tasks)
            self.inner = inner

        def weigh(self, evidence: Evidence) -> Tensor:
            return self.inner.weigh(evidence) / 2

    course = steps(2, 2)
    found = train(Half(RandomWeights(NAMES)).replicated([1, 2]), course)
    torch.testing.assert_close(2 * found, train(RandomWeights(NAMES).replicated([1, 2]), course))


def test_random_rules_are_told_by_their_class():
    assert all(isinstance(make(NAMES), RandomCombiner) for make in RANDOM.values())
    assert not any(isinstance(make(NAMES), RandomCombiner) for make in DETERMINISTIC.values())
