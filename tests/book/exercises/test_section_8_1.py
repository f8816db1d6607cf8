import pytest
import torch

from mtlbook.book import exercises


def over_examples(x, weights, computed):
    gates = torch.einsum("kei,ni->kne", weights, x).softmax(1)
    return torch.einsum("kne,enf->knf", gates, computed)


def one_gate(x, weights, computed):
    gates = (x @ weights[0].T).softmax(1)
    return torch.einsum("ne,enf->nf", gates, computed).expand(len(weights), -1, -1)


def not_normalised(x, weights, computed):
    return torch.einsum("kei,ni,enf->knf", weights, x, computed)


def without_a_task_axis(x, weights, computed):
    return one_gate(x, weights, computed)[0]


def without_gates(inputs, experts, width, tasks, units):
    return experts * (inputs + 1) * width + tasks * ((width + 1) * units + units + 1)


def with_one_gate(inputs, experts, *rest):
    return without_gates(inputs, experts, *rest) + experts * inputs


def with_biased_gates(inputs, experts, width, tasks, units):
    own = without_gates(inputs, experts, width, tasks, units)
    return own + tasks * experts * (inputs + 1)


def without_biases(inputs, experts, width, tasks, units):
    return experts * inputs * (width + tasks) + tasks * (width * units + units)


def without_a_bias(inputs):
    weights = torch.zeros(2, 2, inputs)
    weights[0, 0, 0], weights[1, 1, 0] = 100.0, 100.0
    return weights, torch.zeros(2, 2)


def soft(inputs):
    weights, bias = torch.zeros(2, 2, inputs), torch.zeros(2, 2)
    weights[0, 0, 0], bias[1, 1] = 1.0, 100.0
    return weights, bias


@pytest.mark.parametrize(
    ("id", "answer", "hint"),
    [
        ("8.1.a", over_examples, "over experts, not examples"),
        ("8.1.a", one_gate, "one gate for all tasks"),
        ("8.1.a", not_normalised, "by its own softmax"),
        ("8.1.a", without_a_task_axis, "the shape"),
        ("8.1.b", without_gates, "gates are missing"),
        ("8.1.b", with_one_gate, "a gate of its own"),
        ("8.1.b", with_biased_gates, "have no bias"),
        ("8.1.b", without_biases, "have biases"),
        ("8.1.b", lambda *sizes: 7, "not 7"),
        ("8.1.c", without_a_bias, "without a bias"),
        ("8.1.c", soft, "sharply"),
        ("8.1.c", lambda inputs: (torch.zeros(2, 2), torch.zeros(2, 2)), "the shape"),
    ],
)
def test_a_wrong_answer_is_rejected_with_a_hint(id, answer, hint):  # noqa: A002
    found = exercises.get(id).hint(answer)
    assert found is not None
    assert hint in found, found
