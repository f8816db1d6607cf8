import pytest

from mtlbook.book import exercises


def with_log_variance_for_log_sigma(losses, s):
    return (losses / (2 * s.exp()) + s).sum()


def without_penalty(losses, s):
    return (losses / (2 * s.exp())).sum()


def without_half(losses, s):
    return (losses / s.exp() + s / 2).sum()


def by_log_variance(losses, s):
    return (losses / (2 * s) + s.abs().log() / 2).sum()


def one_per_task(losses, s):
    return losses / (2 * s.exp()) + s / 2


@pytest.mark.parametrize(
    ("id", "answer", "hint"),
    [
        ("6.6.a", with_log_variance_for_log_sigma, "log σ is not s"),
        ("6.6.a", without_penalty, "grow without end"),
        ("6.6.a", without_half, "divided by 2σ²"),
        ("6.6.a", by_log_variance, "divided by 2σ²"),
        ("6.6.a", one_per_task, "add up"),
        ("6.6.b", lambda loss: 1 / (2 * loss), "Kendall's weight"),
        ("6.6.b", lambda loss: loss, "σ² = exp"),
        ("6.6.b", lambda loss: 2 / loss, "derivative by s"),
        ("6.6.c", lambda losses, factors: losses.log(), "not equal"),
        ("6.6.c", lambda losses, factors: 2 * factors * losses, "their logarithm"),
        ("6.6.c", lambda losses, factors: (factors * losses).log(), "each is ½"),
        ("6.6.c", lambda losses, factors: losses.sum().log(), "an s for each"),
        ("6.6.c", lambda losses, factors: -losses, "not equal"),
    ],
)
def test_a_wrong_answer_is_rejected_with_a_hint(id, answer, hint):  # noqa: A002
    found = exercises.get(id).hint(answer)
    assert found is not None
    assert hint in found, found
