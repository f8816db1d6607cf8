import pytest
import torch

from mtlbook.book import exercises


def of_logits(logits, embeddings):
    return sum(own @ rows for own, rows in zip(logits, embeddings, strict=True))


def likeliest(logits, embeddings):
    return sum(rows[own.argmax(1)] for own, rows in zip(logits, embeddings, strict=True))


def over_positions(logits, embeddings):
    return sum(own.softmax(0) @ rows for own, rows in zip(logits, embeddings, strict=True))


def side_by_side(logits, embeddings):
    each = [own.softmax(1) @ rows for own, rows in zip(logits, embeddings, strict=True)]
    return torch.cat(each, 1)


def mean(logits, embeddings):
    each = [own.softmax(1) @ rows for own, rows in zip(logits, embeddings, strict=True)]
    return torch.stack(each).mean(0)


def gradient_step(reached, earlier, rate, delta):
    return reached - 2 * rate * delta * (reached - earlier)


def half(reached, earlier, rate, delta):
    return (reached + rate * delta * earlier) / (1 + rate * delta)


def not_at_infinity(reached, earlier, rate, delta):
    return (reached + 2 * rate * delta * earlier) / (1 + 2 * rate * delta)


def frozen(reached, earlier, rate, delta):
    return earlier


@pytest.mark.parametrize(
    ("id", "answer", "hint"),
    [
        ("6.5.a", of_logits, "softmax over the labels"),
        ("6.5.a", likeliest, "expectation over all"),
        ("6.5.a", over_positions, "not over positions"),
        ("6.5.a", side_by_side, "however many tasks"),
        ("6.5.a", mean, "a plain sum over tasks"),
        ("6.5.b", gradient_step, "its minimum is asked for"),
        ("6.5.b", half, "factor of 2"),
        ("6.5.b", not_at_infinity, "exactly"),
        ("6.5.b", frozen, "solve for θ"),
    ],
)
def test_a_wrong_answer_is_rejected_with_a_hint(id, answer, hint):  # noqa: A002
    found = exercises.get(id).hint(answer)
    assert found is not None
    assert hint in found, found


def test_the_limits_may_come_from_one_formula():
    def by_share(reached, earlier, rate, delta):
        pull = 2 * rate * delta
        share = 1.0 if pull == float("inf") else pull / (1 + pull)
        return reached.lerp(earlier, share)

    assert exercises.get("6.5.b").hint(by_share) is None
