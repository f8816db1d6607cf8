import math

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional as F

from mtlbook.auxiliary.language_model import (
    DIRECTIONS,
    LanguageModelHead,
    Vocabulary,
    add_language_model,
    language_model_losses,
    neighbour_classes,
)
from mtlbook.book.experiments.language_model import Tagger
from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.layers.causal_window import CausalWindow
from mtlbook.layers.recurrent import GRU, LSTM
from mtlbook.layers.tagging import Masked, TagHead, Words
from mtlbook.metrics import IGNORED
from mtlbook.randomness import generator
from mtlbook.tasks import Task

LENGTH, WORDS, WIDTH = 6, 30, 4
READERS = {
    "windows": lambda: CausalWindow(WIDTH, WIDTH, layers=2),
    "LSTM": lambda: LSTM(WIDTH, WIDTH, layers=2, separate=True),
    "GRU": lambda: GRU(WIDTH, WIDTH, layers=2, separate=True),
}


def drawn(rows: int, purpose: str = "words") -> tuple[torch.Tensor, torch.Tensor]:
    source = generator(0, purpose)
    tokens = torch.randint(1, WORDS, (rows, LENGTH), generator=source)
    lengths = torch.randint(1, LENGTH + 1, (rows, 1), generator=source)
    mask = torch.arange(LENGTH) < lengths
    return tokens * mask, mask


def network(reader: str, classes: int, vectors: int = WORDS) -> Tagger:
    torch.manual_seed(0)
    stages = [Words(vectors, WIDTH), Masked(READERS[reader]())]
    heads = {"tag": TagHead(2 * WIDTH, 3)}
    heads |= {way: LanguageModelHead(way, WIDTH, 5, classes) for way in DIRECTIONS}
    return Tagger(stages, heads).double()


def tagged_sentences(rows: int) -> MultiTaskData:
    tokens, mask = drawn(rows)
    tags = torch.where(mask, tokens % 3, IGNORED)
    inputs = {"tokens": tokens.unsqueeze(-1), "mask": mask}
    return MultiTaskData.multi_label([Task.tagging("tag", 3)], inputs, {"tag": tags})


# Vocabulary and targets ---------------------------------------------------------------------------


def test_a_vocabulary_has_the_most_frequent_words_and_one_class_for_all_others():
    tokens = torch.tensor([[9, 9, 9, 4, 4, 2, 7, 0]])
    vocabulary = Vocabulary.of(tokens, tokens > 0, most=3)
    assert vocabulary.words.tolist() == [2, 4, 9]  # of 2 and 7, equally frequent, the smaller one
    assert vocabulary.frequency.tolist() == [1, 2, 3, 1]
    assert vocabulary.classes == 4
    assert vocabulary(torch.tensor([2, 4, 9, 7, 1, 100])).tolist() == [0, 1, 2, 3, 3, 3]


def test_more_classes_than_words_leave_the_class_of_the_others_empty():
    tokens = torch.tensor([[5, 3, 5]])
    vocabulary = Vocabulary.of(tokens, tokens > 0, most=10)
    assert vocabulary.frequency.tolist() == [1, 2, 0]


def test_neighbours_are_those_of_a_loop_over_the_words():
    tokens, mask = drawn(20)
    vocabulary = Vocabulary.of(tokens, mask, most=8)
    found = neighbour_classes(tokens, mask, vocabulary)
    for row in range(20):
        length = int(mask[row].sum())
        for place in range(LENGTH):
            for way, shift in zip(DIRECTIONS, (1, -1), strict=True):
                other = place + shift
                known = place < length and 0 <= other < length
                expected = int(vocabulary(tokens[row, other])) if known else IGNORED
                assert int(found[way][row, place]) == expected


def test_the_losses_are_those_of_the_tasks_and_of_a_sum_over_the_words():
    data = tagged_sentences(12)
    tokens, mask = data.inputs["tokens"][..., 0], data.inputs["mask"]
    vocabulary = Vocabulary.of(tokens, mask, most=8)
    both = add_language_model(data, vocabulary, training=torch.arange(12))
    made = network("windows", vocabulary.classes)(data.inputs)
    losses = language_model_losses(made, tokens, mask, vocabulary)
    for way, loss in zip(DIRECTIONS, losses, strict=True):
        target = both.targets[way]
        log_p = made[way].log_softmax(1)
        each = [
            -log_p[row, target[row, place], place]
            for row in range(12)
            for place in range(LENGTH)
            if target[row, place] != IGNORED
        ]
        torch.testing.assert_close(loss, torch.stack(each).mean(), atol=1e-12, rtol=0)
    by_order = language_model_losses([made[way] for way in DIRECTIONS], tokens, mask, vocabulary)
    assert torch.equal(torch.stack(losses), torch.stack(by_order))


# Limiting cases -----------------------------------------------------------------------------------


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("place", range(1, LENGTH))
def test_what_a_head_predicts_does_not_depend_on_the_words_that_it_is_to_predict(reader, place):
    model = network(reader, 9).requires_grad_(False)
    tokens, mask = drawn(5)[0], torch.ones(5, LENGTH, dtype=torch.bool)
    tokens = tokens.clamp(min=1)

    def predicted(words):
        return model({"tokens": words.unsqueeze(-1), "mask": mask})

    later, earlier = tokens.clone(), tokens.clone()
    later[:, place:] = 1 + later[:, place:] % (WORDS - 1)
    earlier[:, :place] = 1 + earlier[:, :place] % (WORDS - 1)
    own = predicted(tokens)
    assert (predicted(later)["next_word"] - own["next_word"])[..., :place].abs().max() == 0.0
    moved = predicted(earlier)["previous_word"] - own["previous_word"]
    assert moved[..., place:].abs().max() == 0.0
    assert (predicted(later)["tag"] - own["tag"])[..., :place].abs().max() > 0


def test_layers_that_see_both_directions_leak_the_word():
    """The trap: a stack of two that is not separate has seen the next word."""
    torch.manual_seed(0)
    reader = LSTM(WIDTH, WIDTH, layers=2).double()
    x = torch.randn(1, LENGTH, WIDTH, dtype=torch.float64, generator=generator(0, "x"))
    other = x.clone()
    other[:, 3:] += 1
    assert (reader(x) - reader(other))[:, :3, :WIDTH].abs().max() > 0


def test_of_uniform_words_nothing_better_than_the_logarithm_of_their_number_can_be_learnt():
    """All sentences of three words: at equal probabilities the loss is log V and stationary.

    It is convex in the last layer's weights, so that this is its minimum, whatever the trunk.
    """
    grid = torch.cartesian_prod(*[torch.arange(1, 4)] * 3)
    mask = torch.ones_like(grid, dtype=torch.bool)
    vocabulary = Vocabulary.of(grid, mask, most=2)
    model = network("windows", vocabulary.classes)
    for way in DIRECTIONS:
        for values in model.get_submodule(f"heads.{way}.words").parameters():
            nn.init.zeros_(values)
    made = model({"tokens": grid.unsqueeze(-1), "mask": mask})
    losses = torch.stack(language_model_losses(made, grid, mask, vocabulary))
    torch.testing.assert_close(losses, torch.full_like(losses, math.log(3)), atol=1e-12, rtol=0)
    losses.sum().backward()
    for way in DIRECTIONS:
        for values in model.get_submodule(f"heads.{way}.words").parameters():
            assert values.grad is not None
            assert values.grad.abs().max() < 1e-12


def test_at_gamma_0_the_tagger_has_its_own_gradient():
    data = tagged_sentences(10)
    tokens, mask = data.inputs["tokens"][..., 0], data.inputs["mask"]
    vocabulary = Vocabulary.of(tokens, mask, most=8)

    def gradients(gamma: float | None) -> list[torch.Tensor]:
        model = network("windows", vocabulary.classes)
        made = model(data.inputs)
        loss = F.cross_entropy(made["tag"], data.targets["tag"])
        if gamma is not None:
            loss = loss + gamma * sum(language_model_losses(made, tokens, mask, vocabulary))
        parts = [*model.trunk.parameters(), *model.heads["tag"].parameters()]
        return list(torch.autograd.grad(loss, parts))

    for own, joint in zip(gradients(None), gradients(0.0), strict=True):
        assert torch.equal(own, joint)
    assert not torch.equal(gradients(None)[0], gradients(1.0)[0])


@pytest.mark.parametrize("reader", READERS)
def test_all_seeds_at_once_have_the_gradients_of_each_seed(reader):
    tokens, mask = drawn(7)
    vocabulary = Vocabulary.of(tokens, mask, most=8)
    inputs = {"tokens": tokens.unsqueeze(-1), "mask": mask}
    models = [network(reader, vocabulary.classes) for _ in range(3)]
    for number, model in enumerate(models):
        for values in model.parameters():
            values.data.mul_(1 + 0.1 * number)
    parameters, buffers = stack_module_state(models)  # pyright: ignore[reportArgumentType]

    def loss(own, rest):
        made = functional_call(models[0], (own, rest), (inputs,))
        return sum(language_model_losses(made, tokens, mask, vocabulary))

    together = vmap(grad(loss), randomness="error")(parameters, buffers)
    for number, model in enumerate(models):
        alone = grad(loss)(dict(model.named_parameters()), dict(model.named_buffers()))
        for name, value in alone.items():
            torch.testing.assert_close(together[name][number], value, atol=1e-12, rtol=0)


# Bad input ----------------------------------------------------------------------------------------


def test_a_vocabulary_of_test_text_is_refused_and_its_words_are_named():
    data = tagged_sentences(12)
    tokens, mask = data.inputs["tokens"][..., 0], data.inputs["mask"]
    training = torch.arange(3)
    every = Vocabulary.of(tokens, mask, most=WORDS)
    foreign = sorted(set(tokens[mask].tolist()) - set(tokens[:3][mask[:3]].tolist()))
    with pytest.raises(UsageError, match=f"no training sentence .*{foreign[0]}, .*from the train"):
        add_language_model(data, every, training=training)
    fine = Vocabulary.of(tokens[:3], mask[:3], most=WORDS)
    assert add_language_model(data, fine, training=training).tasks[1].outputs == fine.classes


def test_counts_of_further_sentences_are_found_out_where_all_words_are_known():
    tokens = torch.tensor([[1, 2, 1, 2], [2, 1, 2, 1]])
    vocabulary = Vocabulary.of(tokens, tokens > 0, most=2)
    with pytest.raises(UsageError, match="counted over 8 words, and the training sentences have 4"):
        vocabulary.check(tokens[:1], tokens[:1] > 0)
    vocabulary.check(tokens, tokens > 0)


def test_what_cannot_be_read_is_refused():
    flat = MultiTaskData.multi_label(
        [Task.binary("y")], torch.ones(4, 2), {"y": torch.tensor([0.0, 1.0, 0.0, 1.0])}
    )
    tokens = torch.tensor([[1, 2]])
    vocabulary = Vocabulary.of(tokens, tokens > 0, most=1)
    with pytest.raises(UsageError, match=r"'tokens'.*and 'mask'"):
        add_language_model(flat, vocabulary, training=torch.arange(4))
    with pytest.raises(UsageError, match="nothing to predict"):
        Vocabulary.of(tokens, tokens > 5, most=3)
    with pytest.raises(UsageError, match="at least one word"):
        Vocabulary.of(tokens, tokens > 0, most=0)
    with pytest.raises(UsageError, match="not 'both'"):
        LanguageModelHead("both", 3, 3, 3)
