r"""A corpus with three levels of tags, without a download: the sources of a pinned package, parsed.

The package is Jinja2, whose sources are installed with the book and are the same for every Python.
`parso` parses them by the grammar of Python 3.11, whatever Python runs. A token is a leaf of the
syntax tree; line ends, comments and docstrings are left out. Of a name the networks see only its
shape and the number of its last three letters' bucket, as otherwise the lowest task were a matter
of vocabulary. The levels, each closer to the root of the tree:

1. `role`, of names alone: a callee, an attribute, a parameter, the target of an assignment, …
2. `construct`: the innermost construct around a token, as spans (BIO): a call's arguments, a
   condition, a collection, …
3. `statement`: the kind of the statement that a token stands in, as spans.
"""

import keyword
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from parso.grammar import load_grammar
from torch import Tensor

from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.metrics import IGNORED
from mtlbook.randomness import generator
from mtlbook.tasks import Task

PACKAGE = "jinja2"
LENGTH = 16  # tokens a sequence at most

ROLES = (
    *("load", "target", "object", "attribute", "callee", "method"),
    *("parameter", "keyword", "definition", "import"),
)
# The nodes of parso's tree that a construct stands for; the rest is outside of all constructs.
_CONSTRUCTS = {
    "access": ("atom_expr",),
    "argument": ("arglist", "argument"),
    "parameter": ("parameters", "param"),
    "annotation": ("tfpdef", "annassign"),
    "subscript": ("subscriptlist", "subscript", "sliceop"),
    "condition": ("comparison", "comp_op", "not_test", "and_test", "or_test", "test", "comp_if"),
    "arithmetic": ("arith_expr", "term", "factor", "power", "expr", "shift_expr"),
    "collection": (
        *("atom", "testlist_comp", "dictorsetmaker", "testlist_star_expr", "exprlist"),
        *("sync_comp_for", "comp_for", "testlist"),
    ),
    "string": ("fstring", "fstring_expr", "fstring_conversion", "fstring_format_spec", "strings"),
}
_CONSTRUCT_OF = {node: name for name, nodes in _CONSTRUCTS.items() for node in nodes}
_TRAILERS = {"(": "call", "[": "subscript", ".": "attribute"}
_STATEMENTS = {
    "definition": ("funcdef", "async_funcdef", "decorator"),
    "class": ("classdef",),
    "import": ("import_from", "import_name"),
    "branch": ("if_stmt",),
    "loop": ("for_stmt", "while_stmt"),
    "guard": ("try_stmt", "with_stmt", "async_stmt"),
    "return": ("return_stmt", "yield_expr"),
    "raise": ("raise_stmt", "assert_stmt"),
    "assignment": ("expr_stmt",),
}
_STATEMENT_OF = {node: name for name, nodes in _STATEMENTS.items() for node in nodes}


def _spans(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{mark}-{name}" for name in names for mark in "BI")


CONSTRUCTS = ("O", *_spans((*_CONSTRUCTS, "call", "attribute")))
STATEMENTS = _spans((*_STATEMENTS, "expression"))
LABELS = {"role": ROLES, "construct": CONSTRUCTS, "statement": STATEMENTS}

# What the networks see of a token: a symbol or the shape of a name, and a bucket of its last
# letters. Both columns count on from each other, so that one table of vectors serves both.
_OPERATORS = (
    *("(", ")", "[", "]", "{", "}", ",", ":", ".", ";", "@", "=", "->", ":=", "..."),
    *("+", "-", "*", "/", "//", "%", "**", "<<", ">>", "&", "|", "^", "~"),
    *("<", ">", "<=", ">=", "==", "!=", "+=", "-=", "*=", "/=", "//=", "%=", "**="),
    *(">>=", "<<=", "&=", "^=", "|=", "@=", "!"),
)
_OTHER = ("<name>", "<number>", "<string>", "<f-string>", "<unknown>")
_SHAPES = tuple(
    "".join(parts) for parts in product(("", "_", "__"), ("x", "X", "Xx"), ("", "_x"), ("", "0"))
)
_SYMBOLS = {
    symbol: number
    for number, symbol in enumerate((*keyword.kwlist, *_OPERATORS, *_OTHER, *_SHAPES), start=1)
}
BUCKETS = 64  # of the last three letters of a name
VOCABULARY = 1 + len(_SYMBOLS) + 1 + BUCKETS  # 0 pads; a token without a name has a bucket, too


def source_code(*tasks: str, length: int = LENGTH) -> MultiTaskData:
    """Sequences of tokens, each labelled for every task.

    A sequence holds consecutive statements' lines, as many as fit; a longer line is cut. Which file
    a sequence is of says `files_of`.

    Arguments:
        tasks: some of `LABELS`, in this order; without any: all, from the lowest level on.
        length: tokens a sequence at most.

    Returns:
        Inputs `tokens`, `(sequences, length, 2)` numbers below `VOCABULARY` (0: padding), and
        `mask`; tags that are `IGNORED` where there is none: padding, and roles of other tokens than
        names.

    Raises:
        UsageError: for an unknown task, or a length below 2.

    Example:
        >>> data = source_code("role", "construct")
        >>> data.inputs["tokens"].shape[1:], [task.outputs for task in data.tasks]
        (torch.Size([16, 2]), [10, 23])
    """
    chosen = tasks or tuple(LABELS)
    unknown = [name for name in chosen if name not in LABELS]
    if unknown:
        raise UsageError(f"Source code has no task {unknown[0]!r}: choose among {list(LABELS)}.")
    if length < 2:
        raise UsageError(f"A sequence of {length} tokens has no neighbours: ask for at least 2.")
    inputs, targets, _ = _corpus(length)
    return MultiTaskData.multi_label(
        [Task.tagging(name, LABELS[name], "error rate") for name in chosen],
        inputs,
        {name: targets[name] for name in chosen},
    )


def files_of(length: int = LENGTH) -> tuple[int, ...]:
    """The number of each sequence's file, in the order of `source_code(length=length)`."""
    return tuple(_corpus(length)[2].tolist())


def provenance() -> str:
    """The package and parser that the corpus was made with."""
    return f"{PACKAGE} {version(PACKAGE)}, parsed by parso {version('parso')}"


@dataclass(frozen=True)
class FileHoldout(Holdout):
    """A random split in which no file has sequences in two parts.

    The files come in a random order. Test, then validation, take files until they have at least
    `files` of them and the rows that are asked for, and the training part takes the rest; each
    keeps as many rows as asked for, drawn at random.

    Attributes:
        groups: the number of each row's file.
        files: the least number of files of the test and the validation part.

    Raises:
        UsageError: from `draw`, for other rows than groups, or too few rows for a part.

    Example:
        >>> split = FileHoldout(train=400, validation=100, test=300, groups=files_of())
        >>> rows = split.draw(source_code("role"), seed=0)
        >>> file = torch.tensor(files_of())
        >>> set(file[rows.train].tolist()) & set(file[rows.test].tolist())
        set()
    """

    groups: Sequence[int] = ()
    files: int = 4

    def _parts(self, data: MultiTaskData, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        if len(self.groups) != data.rows:
            raise UsageError(
                f"The split has the files of {len(self.groups)} rows, and the data {data.rows} "
                "rows: give each row's file."
            )
        group = torch.tensor(self.groups)
        order = torch.randperm(int(group.max()) + 1, generator=generator(seed, "split by file"))
        waiting = order.tolist()
        parts: dict[str, Tensor] = {}
        for part in ("test", "validation", "train"):
            size = self._size(part, data.rows)
            taken, rows = 0, torch.zeros(data.rows, dtype=torch.bool)
            while waiting and (part == "train" or taken < self.files or int(rows.sum()) < size):
                rows |= group == waiting.pop(0)
                taken += 1
            members = rows.nonzero()[:, 0]
            if len(members) < size:
                raise UsageError(
                    f"The {part} part asks for {size} rows, and the files that are left for it "
                    f"with seed {seed} have {len(members)}: ask for fewer."
                )
            shuffled = torch.randperm(
                len(members), generator=generator(seed, "rows of files", part)
            )
            parts[part] = members[shuffled[:size]]
        return parts["train"], parts["validation"], parts["test"]


# Parsing ------------------------------------------------------------------------------------------


@cache
def _corpus(length: int) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise UsageError(
            f"The corpus is made from the sources of {PACKAGE}, which is not installed: install "
            "the book's extra, mtlbook[book]."
        )
    folder = Path(found.submodule_search_locations[0])
    grammar = load_grammar(version="3.11")
    sequences: list[list[tuple]] = []
    owners: list[int] = []
    for number, path in enumerate(sorted(folder.glob("*.py"))):
        tree: Any = grammar.parse(path.read_text(encoding="utf-8"))
        for sequence in packed(lines(tree), length):
            sequences.append(sequence)
            owners.append(number)
    rows = len(sequences)
    tokens = torch.zeros(rows, length, 2, dtype=torch.long)
    targets = {name: torch.full((rows, length), IGNORED) for name in LABELS}
    numbers = {name: {tag: n for n, tag in enumerate(tags)} for name, tags in LABELS.items()}
    for row, sequence in enumerate(sequences):
        seen, *tags = zip(*sequence, strict=True)
        tokens[row, : len(seen)] = torch.tensor(seen)
        for (name, number_of), own in zip(numbers.items(), tags, strict=True):
            known = [IGNORED if tag is None else number_of[tag] for tag in own]
            targets[name][row, : len(own)] = torch.tensor(known)
    return {"tokens": tokens, "mask": tokens[..., 0] > 0}, targets, torch.tensor(owners)


def lines(tree: Any) -> Iterator[list[tuple]]:
    """Each logical line's tokens: what is seen of them, and their three tags (None: no tag).

    Example:
        >>> tree = load_grammar(version="3.11").parse("total = add(x, 2)")
        >>> for _, *tags in next(lines(tree)):
        ...     print(*tags)
        target O B-assignment
        None O I-assignment
        callee B-access I-assignment
        None B-call I-assignment
        load B-argument I-assignment
        None I-argument I-assignment
        None I-argument I-assignment
        None B-call I-assignment
    """
    line: list[tuple] = []
    before: tuple[Any, Any] = (None, None)
    leaf = tree.get_first_leaf()
    while leaf is not None:
        if leaf.type in ("newline", "endmarker"):
            if line:
                yield line
            line, before = [], (None, None)
        elif not (leaf.type == "string" and leaf.parent.type == "simple_stmt"):  # a docstring
            construct, statement = _construct(leaf), _statement(leaf)
            line.append(
                (
                    _seen(leaf),
                    _role(leaf) if leaf.type == "name" else None,
                    _marked(construct, before[0]),
                    _marked(statement, before[1]),
                )
            )
            before = construct[0], statement[0]
        leaf = leaf.get_next_leaf()


def packed(parts: Iterator[list[tuple]], length: int) -> Iterator[list[tuple]]:
    """Sequences of whole lines up to a length; a longer line is cut into sequences of its own.

    Example:
        >>> list(packed(iter([[1, 2], [3], [4, 5], [6, 7, 8, 9]]), 3))
        [[1, 2, 3], [4, 5], [6, 7, 8], [9]]
    """
    sequence: list[tuple] = []
    for line in parts:
        if sequence and len(sequence) + len(line) > length:
            yield sequence
            sequence = []
        while len(line) > length:
            yield line[:length]
            line = line[length:]
        sequence = sequence + line
    if sequence:
        yield sequence


def _seen(leaf: Any) -> tuple[int, int]:
    """The number of a token's symbol or shape, and of its name's last letters."""
    first = 1 + len(_SYMBOLS)
    text = leaf.value
    if leaf.type == "name":
        bucket = crc32(text[-3:].encode()) % BUCKETS
        return _SYMBOLS.get(_shape(text), _SYMBOLS["<name>"]), first + 1 + bucket
    kind = {"number": "<number>", "string": "<string>"}.get(leaf.type)
    if kind is None:
        kind = "<f-string>" if leaf.type.startswith("fstring") else text
    return _SYMBOLS.get(kind, _SYMBOLS["<unknown>"]), first


def _shape(name: str) -> str:
    """Leading underscores, letters' case, whether words are joined, whether there are digits."""
    bare = name.lstrip("_")
    if not bare:
        return "<name>"
    case = "x" if bare == bare.lower() else "X" if bare == bare.upper() else "Xx"
    joined = "_x" if "_" in bare.rstrip("_") else ""
    digits = "0" if any(letter.isdigit() for letter in bare) else ""
    return "_" * min(len(name) - len(bare), 2) + case + joined + digits


def _role(leaf: Any) -> str:
    parent, following = leaf.parent, leaf.get_next_sibling()
    called = leaf
    if parent.type == "trailer":
        called = parent
    after = called.get_next_sibling()
    is_called = after is not None and after.type == "trailer" and after.children[0].value == "("
    if parent.type == "trailer" and parent.children[0].value == ".":
        return "method" if is_called else "attribute"
    if parent.type == "atom_expr" and following is not None and following.type == "trailer":
        return "callee" if is_called else "object"
    if parent.type in ("funcdef", "classdef"):
        return "definition" if leaf is parent.name else "load"
    if parent.type in ("param", "tfpdef") and leaf is parent.children[0]:
        return "parameter"
    if parent.type == "param" and leaf.get_previous_sibling() in ("*", "**"):
        return "parameter"
    if parent.type == "argument" and leaf is parent.children[0] and following == "=":
        return "keyword"
    if any(ancestor in parent.type for ancestor in ("import", "dotted_as_name", "dotted_name")):
        return "import"
    return "target" if leaf.is_definition() else "load"


def _construct(leaf: Any) -> tuple[Any, str]:
    """The innermost construct's node and name."""
    node = leaf.parent
    while node is not None and node.type not in _STATEMENT_OF:
        if node.type == "trailer":
            return node, _TRAILERS[node.children[0].value]
        if node.type in _CONSTRUCT_OF:
            return node, _CONSTRUCT_OF[node.type]
        node = node.parent
    return None, "O"


def _statement(leaf: Any) -> tuple[Any, str]:
    """The innermost statement's node and kind."""
    node = leaf
    while node.parent is not None and node.type not in _STATEMENT_OF:
        if node.parent.type in ("simple_stmt", "suite", "file_input"):
            return node, "expression"
        node = node.parent
    return node, _STATEMENT_OF.get(node.type, "expression")


def _marked(found: tuple[Any, str], before: Any) -> str:
    """The tag of a node's token: B begins a run of tokens of the same node, I goes on."""
    node, name = found
    if name == "O":
        return name
    return f"{'I' if node is before else 'B'}-{name}"
