from itertools import product

import pytest
import torch

from mtlbook.book.data.worlds.hidden_markov_text import chain, hidden_markov_text, posteriors
from mtlbook.errors import UsageError

SMALL = {"words": 6, "tags": 3, "length": 4}


def test_fewer_rows_are_the_first_of_more():
    few, many = (hidden_markov_text(3, rows=rows) for rows in (5, 50))
    assert torch.equal(few.data.targets["tag"], many.data.targets["tag"][:5])
    assert torch.equal(few.data.inputs["tokens"], many.data.inputs["tokens"][:5])
    other = hidden_markov_text(4, rows=5)
    assert not torch.equal(few.data.inputs["tokens"], other.data.inputs["tokens"])


@pytest.mark.parametrize("sharpness", [0.0, 0.6, 1.0])
def test_states_and_words_are_as_frequent_as_the_chain_says(sharpness):
    options = {"words": 12, "tags": 4}
    made = hidden_markov_text(0, rows=20_000, length=5, sharpness=sharpness, **options)
    transition, emission = chain(0, 12, 4, sharpness=sharpness, ambiguity=0.1, frequency=1.0)
    for table in (transition, emission):
        torch.testing.assert_close(table.sum(1), torch.ones(4, dtype=torch.float64))
    tag, word = made.data.targets["tag"], made.data.inputs["tokens"][..., 0] - 1
    for place in range(5):
        share = tag[:, place].bincount(minlength=4) / 20_000
        assert (share - 0.25).abs().max() < 0.015
    pairs = (4 * tag[:, :-1] + tag[:, 1:]).flatten().bincount(minlength=16).view(4, 4)
    assert (pairs / pairs.sum(1, keepdim=True) - transition).abs().max() < 0.02
    seen = (12 * tag + word).flatten().bincount(minlength=48).view(4, 12)
    assert (seen / seen.sum(1, keepdim=True) - emission).abs().max() < 0.02


def test_at_sharpness_0_neighbours_are_independent_and_at_1_the_circle_is_walked():
    flat, sharp = (
        chain(0, 12, 4, sharpness=s, ambiguity=0.1, frequency=1.0)[0] for s in (0.0, 1.0)
    )
    assert torch.equal(flat, torch.full((4, 4), 0.25, dtype=torch.float64))
    state, walked = 0, []
    for _ in range(4):
        walked.append(state)
        state = int(sharp[state].argmax())
    assert state == 0
    assert sorted(walked) == [0, 1, 2, 3]


def test_posteriors_are_those_of_all_paths_written_out():
    made = hidden_markov_text(1, rows=6, ambiguity=0.4, **SMALL)
    options = {"sharpness": 0.8, "ambiguity": 0.4, "frequency": 1.0}
    transition, emission = chain(1, SMALL["words"], SMALL["tags"], **options)
    word = made.data.inputs["tokens"][..., 0] - 1
    found = posteriors(word, transition, emission)
    for row in range(6):
        expected = torch.zeros(4, 3, dtype=torch.float64)
        for path in product(range(3), repeat=4):
            p = torch.tensor(1 / 3, dtype=torch.float64)
            for place, state in enumerate(path):
                if place:
                    p = p * transition[path[place - 1], state]
                p = p * emission[state, word[row, place]]
            for place, state in enumerate(path):
                expected[place, state] += p
        expected /= expected.sum(1, keepdim=True)
        torch.testing.assert_close(found[row], expected, atol=1e-12, rtol=0)
    assert torch.equal(made.noiseless["tag"], found.argmax(-1))


def test_nobody_tags_better_than_the_posterior_says():
    made = hidden_markov_text(0, rows=4_000)
    right = (made.noiseless["tag"] == made.data.targets["tag"]).double().mean()
    transition, emission = chain(0, 240, 12, sharpness=0.8, ambiguity=0.1, frequency=1.0)
    posterior = posteriors(made.data.inputs["tokens"][..., 0] - 1, transition, emission)
    assert float(right) == pytest.approx(float(posterior.amax(-1).mean()), abs=0.01)
    truth = posterior.gather(-1, made.data.targets["tag"][..., None])
    assert made.least_loss["tag"] == pytest.approx(float(-truth.log().mean()), abs=0.02)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"rows": 0}, "rows must be at least 1"),
        ({"tags": 1, "words": 4}, "tags must be at least 2"),
        ({"words": 25}, "25 words cannot be shared out among 12 tags"),
        ({"sharpness": 1.2}, "sharpness is a share"),
        ({"ambiguity": -0.1}, "ambiguity is a share"),
    ],
)
def test_impossible_text_is_refused(bad, message):
    with pytest.raises(UsageError, match=message):
        hidden_markov_text(0, **({"rows": 3} | bad))
