import pytest
import torch

from mtlbook.book import exercises


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda losses, weights: weights * losses, "one number"),
        (lambda losses, weights: losses.sum(), "plain sum"),
        (lambda losses, weights: weights @ losses / weights.sum(), "do not divide"),
        (lambda losses, weights: (weights * losses).mean(), "the mean over the tasks"),
        (lambda losses, weights: (weights.square() * losses).sum(), "multiply each loss"),
        (lambda losses, weights: torch.tensor(4.0), "gradient must flow"),
        (lambda losses, weights: losses.sum() * 0.4, "its slope"),
        (lambda losses, weights: (weights * losses).sum().item(), "one number"),
    ],
)
def test_wrong_joint_losses_get_their_hint(answer, hint: str):
    assert hint in (exercises.get("1.a").hint(answer) or "")


@pytest.mark.parametrize(
    "answer",
    [
        lambda losses, weights: weights @ losses,
        lambda losses, weights: torch.stack(
            [w * loss for w, loss in zip(weights, losses, strict=True)]
        ).sum(),
    ],
)
def test_other_forms_of_the_joint_loss_are_right_too(answer):
    assert exercises.get("1.a").hint(answer) is None


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda scales: [scale**-0.5 for scale in scales], "not equal"),
        (lambda scales: scales, "not equal"),
        (lambda scales: [1.0] * len(scales), "not equal"),
        (lambda scales: [sum(scales) / scale for scale in scales], "not 1"),
        (lambda scales: [1 / scales[0]], "need 2 weights"),
    ],
)
def test_wrong_weights_get_their_hint(answer, hint: str):
    assert hint in (exercises.get("1.b").hint(answer) or "")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda steps, tasks, alternating: (steps // tasks, steps), "a joint step updates"),
        (lambda steps, tasks, alternating: (steps, steps), "each head has 300"),
        (
            lambda steps, tasks, alternating: (
                (steps // tasks,) * 2 if alternating else (steps, steps)
            ),
            "the shared layer",
        ),
        (
            lambda steps, tasks, alternating: (steps // 2 if alternating else steps, steps),
            "not for three",
        ),
    ],
)
def test_wrong_counts_get_their_hint(answer, hint: str):
    assert hint in (exercises.get("1.c").hint(answer) or "")


def test_the_counted_updates_are_those_of_training():
    """Adam counts the updates of each parameter itself."""
    count = exercises.get("1.c").reference
    shared, *heads = (torch.nn.Parameter(torch.ones(1)) for _ in range(4))
    optimisers = [torch.optim.Adam([shared, *heads]) for _ in heads]
    steps = 12
    for step in range(steps):
        turn = step % len(heads)
        optimisers[turn].zero_grad()
        (shared * heads[turn]).square().sum().backward()
        optimisers[turn].step()
    of_heads = {int(o.state[head]["step"]) for o, head in zip(optimisers, heads, strict=True)}
    of_shared = sum(int(o.state[shared]["step"]) for o in optimisers)
    assert count(steps, len(heads), True) == (of_heads.pop(), of_shared)
    assert not of_heads


@pytest.mark.parametrize(("answer", "agrees"), [("rises", True), ("falls", False)])
def test_a_prediction_is_told_what_was_found(answer: str, agrees: bool):
    assert (exercises.get("1.d").hint(answer) is None) == agrees
