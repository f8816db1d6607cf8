import pytest
import torch
from parso.grammar import load_grammar

from mtlbook.book.data.source_code_corpus import (
    BUCKETS,
    CONSTRUCTS,
    LABELS,
    ROLES,
    STATEMENTS,
    VOCABULARY,
    FileHoldout,
    files_of,
    lines,
    packed,
    provenance,
    source_code,
)
from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.metrics import IGNORED
from mtlbook.tasks import Task

GRAMMAR = load_grammar(version="3.11")


def tags_of(code):
    """The three tags of each token of a piece of code."""
    return [tuple(tags) for line in lines(GRAMMAR.parse(code)) for _, *tags in line]


def test_the_corpus_is_padded_masked_and_labelled_in_full():
    data = source_code()
    tokens, mask = data.inputs["tokens"], data.inputs["mask"]
    assert [task.name for task in data.tasks] == ["role", "construct", "statement"]
    assert tokens.shape == (data.rows, 16, 2)
    assert data.rows > 4_000
    assert mask.sum(1).double().mean() > 12
    assert torch.equal(mask, tokens[..., 0] > 0)
    assert torch.equal(mask, tokens[..., 1] > 0)
    assert not (mask[:, 1:] & ~mask[:, :-1]).any()
    assert int(tokens.max()) == VOCABULARY - 1
    for name in ("construct", "statement"):
        assert torch.equal(data.targets[name] != IGNORED, mask)
    names = tokens[..., 1] > VOCABULARY - BUCKETS - 1
    assert torch.equal(data.targets["role"] != IGNORED, names)


def test_every_label_occurs_and_none_is_all():
    data = source_code()
    for task in data.tasks:
        known = data.targets[task.name][data.targets[task.name] != IGNORED]
        counts = known.bincount(minlength=task.outputs)
        assert (counts > 0).all()
        assert counts.max() < 0.4 * counts.sum()


def test_the_tags_of_a_definition():
    roles, constructs, statements = zip(
        *tags_of("def add(self, x: int = 0, *rest):\n    'A docstring.'\n    return x\n"),
        strict=True,
    )
    assert [own for own in roles if own] == [
        *("definition", "parameter", "parameter", "load", "parameter", "load"),
    ]
    assert constructs[:7] == (
        *("O", "O", "B-parameter", "B-parameter", "I-parameter"),
        *("B-annotation", "I-annotation"),
    )
    assert statements == ("B-definition", *["I-definition"] * 14, "B-return", "I-return")


@pytest.mark.parametrize(
    ("code", "role"),
    [
        ("import here", "import"),
        ("from a import here", "import"),
        ("from a.b import c as here", "import"),
        ("here = 1", "target"),
        ("for here in x: pass", "target"),
        ("here(1)", "callee"),
        ("here.x", "object"),
        ("here[0]", "object"),
        ("x.here", "attribute"),
        ("x.here(1)", "method"),
        ("f(here=1)", "keyword"),
        ("f(x=here)", "load"),
        ("class here: pass", "definition"),
        ("class A(here): pass", "load"),
        ("lambda here: 0", "parameter"),
        ("def f(**here): pass", "parameter"),
        ("here + 1", "load"),
    ],
)
def test_the_role_of_a_name(code, role):
    tree = GRAMMAR.parse(code)
    leaf, place = tree.get_first_leaf(), 0
    while leaf.value != "here":
        leaf, place = leaf.get_next_leaf(), place + 1
    assert tags_of(code)[place][0] == role


def test_a_name_shows_its_shape_and_three_letters_only():
    def seen(code):
        return next(lines(GRAMMAR.parse(code)))[0][0]

    assert seen("template") == seen("late") == seen("plate")
    assert seen("template") != seen("Template")
    assert seen("Template")[1] == seen("template")[1]
    assert seen("_late")[0] != seen("late")[0]
    assert seen("a_late")[0] != seen("late")[0]
    assert seen("1") == seen("2.5") != seen("x")


def test_lines_are_packed_and_long_ones_cut():
    kept = list(packed(iter([[(n,)] * n for n in (1, 2, 3, 7)]), 3))
    assert [len(own) for own in kept] == [3, 3, 3, 3, 1]


def test_fewer_tasks_are_the_same_data():
    every, one = source_code(), source_code("construct")
    assert torch.equal(every.targets["construct"], one.targets["construct"])
    assert [task.outputs for task in every.tasks] == [len(names) for names in LABELS.values()]
    assert (len(ROLES), len(CONSTRUCTS), len(STATEMENTS)) == (10, 23, 20)
    assert source_code(length=8).inputs["tokens"].shape[1] == len(
        source_code(length=8).targets["role"][0]
    )
    assert provenance().startswith("jinja2 ")


@pytest.mark.parametrize("seed", range(6))
def test_no_file_is_in_two_parts(seed):
    data, files = source_code(), torch.tensor(files_of())
    split = FileHoldout(
        train=600, validation=200, test=600, groups=files_of(), labels={"statement": 60}
    ).draw(data, seed)
    parts = [set(files[rows].tolist()) for rows in (split.train, split.validation, split.test)]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]
    assert min(map(len, parts[1:])) >= 3
    assert [len(split.train), len(split.validation), len(split.test)] == [600, 200, 600]
    assert int(split.labelled["statement"][split.train].sum()) == 60


def test_parts_that_cannot_be_had_are_refused():
    rows = torch.arange(6.0)[:, None]
    data = MultiTaskData.multi_label([Task.regression("y")], rows, {"y": rows})
    with pytest.raises(UsageError, match="give each row's file"):
        FileHoldout(groups=(0, 1)).draw(data, 0)
    with pytest.raises(UsageError, match="ask for fewer"):
        FileHoldout(train=4, validation=1, test=1, groups=(0, 1, 2, 3, 4, 5), files=2).draw(data, 0)
    with pytest.raises(UsageError, match="no task 'kind'"):
        source_code("kind")
    with pytest.raises(UsageError, match="at least 2"):
        source_code(length=1)
