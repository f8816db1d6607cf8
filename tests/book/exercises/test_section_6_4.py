import pytest
import torch

from mtlbook.book import exercises


def one_layer(layer, reach, position, length):
    return 2 * reach + 1


def without_ends(layer, reach, position, length):
    return 2 * layer * reach + 1


def one_side(layer, reach, position, length):
    return layer * reach + 1


def shifted(at, layers):
    return torch.nn.functional.one_hot(torch.tensor(at) % layers, layers)


def the_mean(at, layers):
    return torch.ones(len(at), layers)


def below(at, layers):
    return [{task for task in at if at[task] <= layer} for layer in range(1, layers + 1)]


def own_layer(at, layers):
    return [{task for task in at if at[task] == layer} for layer in range(1, layers + 1)]


@pytest.mark.parametrize(
    ("id", "answer", "hint"),
    [
        ("6.4.a", one_layer, "that is one layer"),
        ("6.4.a", without_ends, "beyond the ends"),
        ("6.4.a", one_side, "a head sees 3, not 2"),
        ("6.4.b", shifted, "layers count from 1"),
        ("6.4.b", the_mean, "one 1 in each row"),
        ("6.4.b", lambda at, layers: torch.eye(layers + 1), "a column for each layer"),
        ("6.4.c", below, "the other way round"),
        ("6.4.c", own_layer, "down to the first"),
        ("6.4.c", lambda at, layers: [set(at)], "empty ones included"),
        ("6.4.c", lambda at, layers: [set(at)] * layers, "to its own"),
    ],
)
def test_a_wrong_answer_is_rejected_with_a_hint(id, answer, hint):  # noqa: A002
    found = exercises.get(id).hint(answer)
    assert found is not None
    assert hint in found, found
