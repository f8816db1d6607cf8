import pytest
import torch

from mtlbook.book import exercises


def always_added(main, auxiliary):
    return main + auxiliary


def also_against(main, auxiliary):
    return main + (main @ auxiliary) / (main.norm() * auxiliary.norm()) * auxiliary


def by_the_main_length(main, auxiliary):
    return main + ((main @ auxiliary) / (main @ main)).clamp(min=0) * auxiliary


def across_tasks(probabilities, gained, left_out):
    ups = [p for p, up in zip(probabilities, gained, strict=True) if up]
    downs = [p for p, up in zip(probabilities, gained, strict=True) if not up]
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in ups for b in downs]
    return sum(pairs) / len(pairs)


def of_each_task(probabilities, gained, left_out):
    found = []
    for task in sorted(set(left_out)):
        own = [(p, g) for p, g, t in zip(probabilities, gained, left_out, strict=True) if t == task]
        chosen, gains = zip(*own, strict=True)
        found.append(across_tasks(chosen, gains, None))
    return sum(found) / len(found)


def strict_only(probabilities, gained, left_out):
    right = compared = 0
    triples = list(zip(probabilities, gained, left_out, strict=True))
    for p, up, task in triples:
        for q, down, other in triples:
            if up and not down and task == other:
                right, compared = right + (p > q), compared + 1
    return right / compared


@pytest.mark.parametrize(
    ("id", "answer", "hint"),
    [
        ("7.9.a", always_added, "wrong where"),
        ("7.9.a", also_against, "clamp the cosine at 0"),
        ("7.9.a", by_the_main_length, "both lengths"),
        ("7.9.a", lambda main, auxiliary: torch.ones(3), "each parameter"),
        ("7.9.b", across_tasks, "different fits"),
        ("7.9.b", of_each_task, "over all tasks"),
        ("7.9.b", strict_only, "tie counts"),
        ("7.9.b", lambda p, g, t: 0.2, "the order is right here"),
    ],
)
def test_a_wrong_answer_is_rejected_with_a_hint(id, answer, hint):  # noqa: A002
    found = exercises.get(id).hint(answer)
    assert found is not None
    assert hint in found, found
