import pytest
import torch

from mtlbook.book.data.worlds.layered_tagging import layered_tagging
from mtlbook.errors import UsageError


def test_a_level_is_a_function_of_three_tags_below():
    """Sentences with equal neighbourhoods have equal tags, wherever they stand."""
    made = layered_tagging(0, rows=400, tasks=("a", "b", "c"), tags=3)
    below = made.noiseless["a"]
    for name in ("b", "c"):
        above, seen = made.noiseless[name], {}
        for row in range(400):
            for place in range(1, 7):
                around = tuple(below[row, place - 1 : place + 2].tolist())
                assert seen.setdefault(around, above[row, place].item()) == above[row, place]
        assert len(seen) > 15
        assert len(set(seen.values())) > 1
        below = above


def test_a_tag_depends_on_no_word_beyond_its_reach():
    made = layered_tagging(1, rows=3_000, words=2, length=5)
    tokens = made.data.inputs["tokens"][..., 0]
    for name, reach in (("low", 1), ("main", 2)):
        seen = {}
        for row in range(3_000):
            around = tuple(tokens[row, max(0, 2 - reach) : 3 + reach].tolist())
            tag = made.noiseless[name][row, 2].item()
            assert seen.setdefault(around, tag) == tag
        assert len(seen) == 2 ** (2 * reach + 1)


def by_hand(made_seed, tokens, layered):
    """The levels written out with Python's own loops, from the same scores."""
    from mtlbook.book.data.worlds.layered_tagging import _scores

    words, tags = 30, 4

    def chain(depth, owner):
        symbols = (tokens - 1).tolist()
        for level in range(1, depth + 1):
            scores = (
                torch.cat([_scores(made_seed, words, tags, 1, owner, d) for d in range(2)], 1)
                if level == 1
                else _scores(made_seed, tags, tags, level, owner)
            )
            upper = []
            for row in symbols:
                new = []
                for i in range(len(row)):
                    total = torch.zeros(tags, dtype=torch.float64)
                    for j in (-1, 0, 1):
                        if 0 <= i + j < len(row):
                            total += scores[j + 1, row[i + j]]
                    new.append(int(total.argmax()))
                upper.append(new)
            symbols = upper
        return torch.tensor(symbols)

    return {
        name: chain(depth, "common" if layered else name)
        for depth, name in ((1, "low"), (2, "main"))
    }


@pytest.mark.parametrize("layered", [True, False])
def test_the_tags_are_those_of_a_loop(layered):
    made = layered_tagging(5, rows=20, domains=2, layered=layered)
    looped = by_hand(5, made.data.inputs["tokens"][..., 0], layered)
    for name, tag in looped.items():
        assert torch.equal(made.noiseless[name], tag)


def test_without_layers_the_main_task_has_a_latent_of_its_own():
    on = layered_tagging(0, rows=2_000)
    off = layered_tagging(0, rows=2_000, layered=False)
    assert torch.equal(on.data.inputs["tokens"], off.data.inputs["tokens"])
    # Given the lower tags around it, the main tag is known with layers and not without.
    for made, sure in ((on, True), (off, False)):
        low, main = made.noiseless["low"], made.noiseless["main"]
        around = low[:, 2] * 16 + low[:, 3] * 4 + low[:, 4]
        kinds = [main[around == number, 3].unique().numel() for number in range(64)]
        assert (max(kinds) == 1) is sure


def test_fewer_rows_are_the_first_of_more_and_noise_has_its_share():
    few, many = (layered_tagging(3, rows=rows, noise=0.2) for rows in (10, 2_000))
    assert torch.equal(few.data.inputs["tokens"], many.data.inputs["tokens"][:10])
    for name, target in few.data.targets.items():
        assert torch.equal(target, many.data.targets[name][:10])
    changed = (many.data.targets["main"] != many.noiseless["main"]).double().mean()
    assert changed == pytest.approx(0.2 * 3 / 4, abs=0.01)
    own = torch.tensor([0.85, 0.05, 0.05, 0.05], dtype=torch.float64)
    assert many.least_loss["main"] == pytest.approx(float(-(own * own.log()).sum()))


def test_domains_take_turns_and_share_no_word():
    made = layered_tagging(0, rows=200, domains=2)
    tokens = made.data.inputs["tokens"]
    assert tokens[0::2].max() <= 30 < tokens[1::2].min()
    assert int(tokens.min()) >= 1


@pytest.mark.parametrize("seed", range(4))
def test_no_tag_is_rare(seed):
    made = layered_tagging(seed, rows=1_000, tasks=("a", "b", "c"))
    share = made.noiseless["a"].flatten().bincount(minlength=4) / 8_000
    assert share.min() > 0.1


@pytest.mark.parametrize("wrong", [{"rows": 0}, {"tags": 1}, {"noise": 1.5}, {"domains": 0}])
def test_impossible_numbers_are_refused(wrong):
    with pytest.raises(UsageError, match="must"):
        layered_tagging(0, **({"rows": 5} | wrong))
