"""The checks of the notebooks: a good notebook passes all, and each fault is found by its check."""

import ast
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from textwrap import dedent
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mtlbook.book import exercises
from mtlbook.book.exercises import Prediction
from mtlbook.book.replication import Replication
from mtlbook.book.runner.clean import KERNEL, LANGUAGE
from tests import notebook_hygiene as hygiene
from tests.ledger_hygiene import FIELDS, figure_faults, ledger_faults, replication_faults
from tests.notebook_hygiene import CHECKS, Book, Check, checks, copies

PATH = Path("notebooks/3_sharing_methods/3_1_hard_parameter_sharing.ipynb")

TITLE = "# 3.1 Hard parameter sharing\n\n§3.1 of the overview (Ruder, 2017) says that ..."
PARAMETERS = """\
seeds = 16  # how many replicates
first_seed = 0  # of the first replicate
device = "cpu"  # auto, cpu, cuda or cuda:1
dataset = "digits"  # digits or worlds
penalties = [0.0, -1.0]  # the dial
"""
IMAGE = new_output(
    "display_data",
    data={
        "text/html": '<figure><img alt="The loss falls." src="data:image/png;base64,AA"></figure>',
        "text/plain": "Figure 3.1.1. The loss falls.",
    },
)
EXERCISES = """\
from mtlbook.book import exercises

exercises.check("3.1.a", ...)
exercises.check("3.1.z", ...)
"""
END = """\
## 3.1.2 When it fails

## 3.1.3 Exercises

## 3.1.4 References

[before](../2_motivation/2_motivation_and_relatives.ipynb),
[after](3_2_soft_parameter_sharing.ipynb#idea)
"""
HIDDEN = {"tags": ["hide-input"]}
TABLE = new_output("display_data", data={"text/html": '<table class="dataframe">'})
OTHER_PATH = "/" + "home/ada/data"


def good() -> Book:
    """A notebook that passes every check."""
    code = [
        (PARAMETERS, []),
        ("import torch\nfrom mtlbook.book.page import Page", []),
        ("print(torch.ones(1))", [new_output("stream", name="stdout", text="tensor([1.])\n")]),
        ("page.answer('It helps.')\npage.model(net)\npage.figure(figure)", [deepcopy(IMAGE)]),
        (EXERCISES, []),
    ]
    cells = [
        new_markdown_cell(TITLE),
        new_markdown_cell("## 3.1.1 The idea\n\n$$L = L_1 + L_2$$\n\n![The net](net.png)"),
        *(new_code_cell(source, outputs=outputs) for source, outputs in code),
        new_markdown_cell(END),
    ]
    metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": LANGUAGE})
    notebook = new_notebook(cells=cells, metadata=metadata)
    for count, cell in enumerate(Book(PATH, notebook, 0).code_cells, start=1):
        cell.execution_count = count
    notebook.cells[2].metadata["tags"] = ["parameters"]
    notebook.cells[6].metadata["tags"] = ["exercise"]
    return Book(PATH, notebook, 1000)


@pytest.fixture(autouse=True)
def _a_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Prediction("3.1.z", "?", lambda answer: None, 1.0)
    monkeypatch.setitem(exercises._EXERCISES, "3.1.z", one)


def code(source: str, cell: int = 1) -> Callable[[Book], None]:
    """A mutation that replaces the source of a code cell, by default the second."""

    def mutate(book: Book) -> None:
        book.code_cells[cell].source = dedent(source)

    return mutate


def exercise_cell(source: str) -> Callable[[Book], None]:
    """A mutation that replaces the source of the cell with the exercises."""

    def mutate(book: Book) -> None:
        book.code_cells[-1].source = source

    return mutate


def more(*cells: nbformat.NotebookNode) -> Callable[[Book], None]:
    """A mutation that adds cells."""

    def mutate(book: Book) -> None:
        for cell in deepcopy(cells):
            if cell.cell_type == "code":
                cell.execution_count = len(book.code_cells) + 1
            book.notebook.cells.append(cell)

    return mutate


def excused(reasons: dict[str, str], mutate: Callable[[Book], None]) -> Callable[[Book], None]:
    """A mutation of a page that says why it holds too much."""

    def mutate_and_excuse(book: Book) -> None:
        mutate(book)
        book.notebook.metadata["mtlbook"] = {"over_budget": reasons}

    return mutate_and_excuse


def parameter(line: str, new: str) -> Callable[[Book], None]:
    """A mutation of the cell of parameters."""

    def mutate(book: Book) -> None:
        assert line in PARAMETERS
        book.code_cells[0].source = PARAMETERS.replace(line, new)

    return mutate


def prose(cell: int, old: str, new: str) -> Callable[[Book], None]:
    """A mutation of a markdown cell."""

    def mutate(book: Book) -> None:
        source = book.notebook.cells[cell].source
        assert old in source
        book.notebook.cells[cell].source = source.replace(old, new)

    return mutate


def printed(text: str, stream: str = "stdout") -> Callable[[Book], None]:
    """A mutation that prints a text."""

    def mutate(book: Book) -> None:
        book.code_cells[2].outputs = [new_output("stream", name=stream, text=text)]

    return mutate


def shown(kind: str, data: str) -> Callable[[Book], None]:
    """A mutation that shows an output of a MIME type."""

    def mutate(book: Book) -> None:
        book.code_cells[2].outputs = [new_output("display_data", data={kind: data})]

    return mutate


def never_executed(book: Book) -> None:
    for cell in book.code_cells:
        cell.execution_count, cell.outputs = None, []


def executed_out_of_order(book: Book) -> None:
    book.code_cells[0].execution_count, book.code_cells[1].execution_count = 2, 1


def stopped_by_an_error(book: Book) -> None:
    book.code_cells[2].outputs = [new_output("error", ename="E", evalue="e", traceback=[])]


def untagged(book: Book) -> None:
    book.code_cells[0].metadata["tags"] = []


def tagged_twice(book: Book) -> None:
    book.code_cells[1].metadata["tags"] = ["parameters"]


def other_kernel(book: Book) -> None:
    book.notebook.metadata.kernelspec["name"] = "conda-env"


def widget_state(book: Book) -> None:
    book.notebook.metadata["widgets"] = {}


def execution_times(book: Book) -> None:
    book.code_cells[0].metadata["execution"] = {"iopub.status.idle": "2026-01-31T12:00:00Z"}


def skipped_by_nbval(book: Book) -> None:
    book.code_cells[1].metadata["tags"] = ["nbval-skip"]


def other_language(book: Book) -> None:
    book.notebook.metadata.language_info["version"] = "3.0"


def more_metadata(book: Book) -> None:
    book.notebook.metadata["papermill"] = {}


def old_format(book: Book) -> None:
    book.notebook.nbformat_minor = 4


def untagged_exercise(book: Book) -> None:
    book.code_cells[-1].metadata["tags"] = []


def late_result(book: Book) -> None:
    book.code_cells[1].source += "\n\nstep()" * (60 - 6)


def image_without_text(book: Book) -> None:
    data = book.code_cells[3].outputs[0].data
    data["text/html"] = data["text/html"].replace("The loss falls.", "")


def empty_cell(book: Book) -> None:
    book.notebook.cells.append(new_markdown_cell(""))


LONG_FUNCTION = "def long():\n" + "    step()\n" * hygiene.LONGEST_FUNCTION

FAULTS: list[tuple[Check, Callable[[Book], None]]] = [
    (hygiene.executed, never_executed),
    (hygiene.executed, executed_out_of_order),
    (hygiene.executed, stopped_by_an_error),
    (hygiene.parameters, untagged),
    (hygiene.parameters, tagged_twice),
    (hygiene.parameters, parameter("seeds = 16  # how many replicates", "seeds = 16")),
    (hygiene.parameters, parameter("seeds = 16", "seeds = 8")),
    (hygiene.parameters, parameter("seeds = 16", "seeds = True")),
    (hygiene.parameters, parameter("first_seed", "start")),
    (hygiene.parameters, parameter('"cpu"', "None")),
    (hygiene.parameters, parameter("[0.0, -1.0]", "list(range(3))")),
    (hygiene.parameters, parameter("penalties =", "import os; penalties =")),
    (hygiene.metadata, other_kernel),
    (hygiene.metadata, other_language),
    (hygiene.metadata, more_metadata),
    (hygiene.metadata, old_format),
    (hygiene.no_widgets, widget_state),
    (hygiene.no_widgets, shown("application/vnd.jupyter.widget-view+json", "{}")),
    (hygiene.nothing_of_the_machine, printed(f"read {OTHER_PATH}\n")),
    (hygiene.nothing_of_the_machine, printed("read C" + r":\Users\ada")),
    (hygiene.nothing_of_the_machine, shown("text/html", f"<td>{OTHER_PATH}</td>")),
    (hygiene.nothing_of_the_machine, code(f"open('{OTHER_PATH}')")),
    (hygiene.nothing_of_the_machine, printed("started 2026-01-31 12:00")),
    (hygiene.nothing_of_the_machine, execution_times),
    (hygiene.quiet_outputs, printed("100%|#####| 3/3")),
    (hygiene.quiet_outputs, printed("3.1 it/s")),
    (hygiene.quiet_outputs, printed("FutureWarning: soon")),
    (hygiene.quiet_outputs, printed("anything", stream="stderr")),
    (hygiene.quiet_outputs, shown("text/plain", "<object at 0x7f00aa12>")),
    (hygiene.strict, skipped_by_nbval),
    (hygiene.strict, code("# NBVAL_IGNORE_OUTPUT\nimport torch")),
    (hygiene.strict, code("torch.ones(1);")),
    (hygiene.images_have_alternative_texts, image_without_text),
    (hygiene.images_have_alternative_texts, shown("image/png", "AAAA")),
    (hygiene.images_have_alternative_texts, shown("text/html", '<img src="a.png">')),
    (hygiene.images_have_alternative_texts, prose(1, "![The net]", "![]")),
    (hygiene.structure, prose(0, "# 3.1", "3.1")),
    (hygiene.structure, prose(0, "§3.1", "§3.10")),
    (hygiene.structure, prose(0, "2017", "1997")),
    (hygiene.structure, prose(0, "# 3.1 Hard", "# 3.1 Hard\n\n# 3.1 Hard")),
    (hygiene.structure, prose(1, "$$", "$")),
    (hygiene.structure, prose(-1, "When it fails", "Limits")),
    (hygiene.structure, prose(-1, "References", "Sources")),
    (hygiene.headings, prose(0, "# 3.1 Hard", "# Hard")),
    (hygiene.headings, prose(0, "# 3.1 Hard", "# 3.10 Hard")),
    (hygiene.headings, prose(1, "3.1.1 ", "")),
    (hygiene.headings, prose(-1, "3.1.3", "3.1.4")),
    (hygiene.links, prose(-1, "../2_motivation/", "")),
    (hygiene.links, prose(-1, "3_2_soft_parameter_sharing", "3_3_more")),
    (hygiene.answer_and_model, code("page.figure(answer)", 3)),
    (hygiene.answer_and_model, code("page.figure(page.answer('It helps.'))", 3)),
    (hygiene.exercises, exercise_cell(EXERCISES.replace("3.1.a", "3.2.a"))),
    (hygiene.exercises, exercise_cell(EXERCISES.replace("3.1.z", "3.1.b"))),
    (hygiene.exercises, exercise_cell(EXERCISES.replace('exercises.check("3.1.a", ...)', ""))),
    (hygiene.exercises_alone, exercise_cell(EXERCISES.partition("\n")[2])),
    (hygiene.exercises_alone, exercise_cell(EXERCISES.replace("...", "page.seeds"))),
    (hygiene.exercises_alone, untagged_exercise),
    (hygiene.budget, more(new_code_cell(250 * "step()\n"))),
    (hygiene.budget, more(new_code_cell(400 * "step()\n", metadata=HIDDEN))),
    (hygiene.budget, more(new_markdown_cell(2_500 * "more "))),
    (hygiene.budget, more(new_code_cell("more", outputs=6 * [TABLE]))),
    (hygiene.budget, more(new_markdown_cell(6 * "\n\na | b\n--- | ---:\n1 | 2"))),
    (hygiene.budget, more(new_code_cell("more", outputs=6 * [IMAGE]))),
    (hygiene.budget, late_result),
    (hygiene.budget, code("page.answer('It helps.')\npage.model(net)", 3)),
    (hygiene.budget, excused({"words": "It was known."}, lambda book: None)),
    (hygiene.budget, excused({"lines": "It was known."}, lambda book: None)),
    (hygiene.budget, excused({"words": " "}, more(new_markdown_cell(2_500 * "more ")))),
    (hygiene.plain_words, prose(0, "says", "says: look\nwhether")),
    (hygiene.plain_words, printed("None was known when the claims were written.")),
    (hygiene.plain_python, code("%matplotlib inline")),
    (hygiene.plain_python, empty_cell),
    (hygiene.short_functions, code(LONG_FUNCTION)),
    (hygiene.declared_imports, code("from tensorflow import keras")),
    (hygiene.declared_imports, code("def late():\n    import tensorflow")),
    (hygiene.moves_no_data, code("model(x.to(page.device))")),
    (hygiene.moves_no_data, code("x = x.to(torch.float64, device='cuda')")),
    (hygiene.moves_no_data, code("mask = mask.to(x)")),
    (hygiene.moves_no_data, code("def late(x):\n    return x.detach().cpu().numpy()")),
    (hygiene.moves_no_data, code("model.cuda()")),
    (hygiene.moves_no_data, code("import torch\ntorch.eye(2, device=page.device)")),
    (hygiene.moves_no_data, code("x.new_zeros(2, device=x.device)")),
    (hygiene.moves_no_data, code("layer = torch.nn.Linear(2, 3, device=page.device)")),
    (hygiene.moves_no_data, code("import torch\ntorch.set_default_device('cuda')")),
    (hygiene.moves_no_data, code("import torch\nwhere = torch.device('cuda')")),
]

BAD_PATHS = (
    "notebooks/3_sharing_methods/hard_parameter_sharing.ipynb",
    "notebooks/3_sharing_methods/3_1_Hard.ipynb",
    "notebooks/3_sharing_methods/3_1.ipynb",
    "notebooks/4_mechanisms/3_1_hard_parameter_sharing.ipynb",
    "notebooks/sharing_methods/3_1_hard_parameter_sharing.ipynb",
    "notebooks/3_1_hard_parameter_sharing.ipynb",
    "notebooks/3_sharing_methods/more/3_1_hard_parameter_sharing.ipynb",
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_good_notebook_passes(check: Check) -> None:
    assert check(good()) == []


@pytest.mark.parametrize(
    ("check", "mutate"),
    FAULTS,
    ids=[f"{check.__name__}-{n}" for n, (check, _) in enumerate(FAULTS)],
)
def test_each_fault_is_found_by_its_check_alone(check: Check, mutate: Callable) -> None:
    book = good()
    mutate(book)
    assert {found.__name__ for found in CHECKS if found(book)} == {check.__name__}


@pytest.mark.parametrize(
    "source",
    ["x.to(torch.float32)", "x.to(y.dtype)", "x.to(dtype=dtype)", "Settings(device=page.device)"],
)
def test_precision_and_the_place_of_a_training_may_be_said(source: str) -> None:
    book = good()
    code(source)(book)
    assert hygiene.moves_no_data(book) == []


@pytest.mark.parametrize(
    ("key", "mutate"),
    [
        ("visible", more(new_code_cell(250 * "step()\n"))),
        ("total", more(new_code_cell(400 * "step()\n", metadata=HIDDEN))),
        ("words", more(new_markdown_cell(2_500 * "more "))),
        ("tables", more(new_code_cell("more", outputs=6 * [TABLE]))),
        ("figures", more(new_code_cell("more", outputs=6 * [IMAGE]))),
        ("first result", late_result),
    ],
)
def test_a_page_may_say_why_it_holds_more(key: str, mutate: Callable) -> None:
    book = good()
    excused({key: "It compares two methods."}, mutate)(book)
    assert hygiene.budget(book) == []


def test_just_the_budget_is_no_fault() -> None:
    book = good()
    used = sum(len(hygiene.lines(cell.source)) for cell in book.code_cells)
    more(
        new_code_cell((250 - used) * "step()\n\n"),
        new_code_cell(150 * "step()\n", metadata=HIDDEN),
        new_markdown_cell((2_500 - hygiene.words(book)) * "more * "),
        new_code_cell("more", outputs=5 * [TABLE] + 4 * [IMAGE]),
    )(book)
    book.notebook.cells[-1].source = ""
    assert hygiene.budget(book) == []


def test_pages_are_read_by_their_numbers_and_a_chapter_at_its_end() -> None:
    stems = [
        "0_start_here",
        "1_from_one",
        "4_1_data",
        "4_5_rule",
        "4_all",
        "6_3_a",
        "6_10_b",
        "10_x",
    ]
    paths = [Path("notebooks/x") / f"{stem}.ipynb" for stem in stems]
    assert sorted(paths, key=hygiene.reading_order) == paths


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_wrong_name_or_folder_is_found(path: str) -> None:
    assert hygiene.name(Book(Path(path), good().notebook, 0)) != []


def test_a_large_file_is_found() -> None:
    assert hygiene.small(Book(PATH, good().notebook, hygiene.LARGEST_FILE)) != []


def test_every_check_is_shown_to_fail() -> None:
    shown_elsewhere = {hygiene.name, hygiene.small}
    assert {check for check, _ in FAULTS} | shown_elsewhere == set(CHECKS)


@pytest.mark.parametrize(
    ("stem", "section"),
    [("3_1_hard", "3.1"), ("1_from_one_task", "1"), ("7_2_10_cues", "7.2.10"), ("hard", "")],
)
def test_a_section_is_the_numbers_in_front_of_the_title(stem: str, section: str) -> None:
    assert hygiene.section_of(stem) == section


def test_a_notebook_is_read_and_validated(tmp_path: Path) -> None:
    (tmp_path / PATH).parent.mkdir(parents=True)
    nbformat.write(good().notebook, tmp_path / PATH)
    book = Book.read(tmp_path, PATH)
    assert book.section == "3.1"
    assert [check.__name__ for check in CHECKS if check(book)] == []
    (tmp_path / PATH).write_text('{"nbformat": 4, "nbformat_minor": 5, "cells": []}')
    with pytest.raises(nbformat.ValidationError):
        Book.read(tmp_path, PATH)


ONE = """
def total(losses, weights):
    '''The weighted sum.'''
    parts = [weight * loss for weight, loss in zip(weights, losses)]
    return sum(parts)
"""
RENAMED = """
def joint(values: list, factors: list) -> float:
    products = [factor * value for factor, value in zip(factors, values)]
    return sum(products)
"""
DIFFERENT = """
def total(losses, weights):
    parts = [weight + loss for weight, loss in zip(weights, losses)]
    return sum(parts)
"""


def trees(source: str) -> list[ast.Module]:
    return [ast.parse(source)]


def test_a_copy_is_found_under_another_name() -> None:
    assert copies({"a.ipynb": trees(ONE)}, {"module": trees(RENAMED)}) != []
    assert copies({"a.ipynb": trees(ONE), "b.ipynb": trees(RENAMED)}, {}) != []


def test_functions_that_differ_or_lie_in_the_package_alone_are_no_copies() -> None:
    assert copies({"a.ipynb": trees(ONE)}, {"module": trees(DIFFERENT)}) == []
    assert copies({}, {"one": trees(ONE), "other": trees(RENAMED)}) == []


CLAIMS = [
    {
        "id": "3.1-a",
        "section": "3.1",
        "statement": "It helps.",
        "smallest": 1.0,
        "roles": {"digits": "real data"},
    },
    {
        "id": "9-later",
        "section": "9",
        "statement": "Not tested yet.",
        "smallest": 1.0,
        "roles": {"digits": "real data"},
    },
]
RECORD = {
    "id": "3.1-a",
    "section": "3.1",
    "statement": "It helps.",
    "effect": 2.0,
    "low": 1.5,
    "high": 2.5,
    "p": 0.001,
    "smallest": 1.0,
    "seeds": 16,
    "verdict": "supported",
    "data": "digits",
    "notebook": PATH.as_posix(),
    "role": "real data",
}
CONTROLS = [CLAIMS[0] | {"roles": {"digits": "mechanism off"}}]


def test_a_good_ledger_passes() -> None:
    assert tuple(RECORD) == FIELDS
    assert ledger_faults([good()], CLAIMS, {"claims": [RECORD]}) == []


@pytest.mark.parametrize(
    ("effect", "low", "high", "verdict"),
    [
        (2.0, 1.5, 2.5, "supported"),
        (-2.0, -2.5, -1.5, "harmful"),
        (0.5, 0.1, 0.9, "negligible"),
        (-0.5, -2.0, 0.9, "refuted"),
        (0.5, 0.1, 1.5, "slight"),
        (2.0, -0.1, 4.0, "undecided"),
    ],
)
def test_the_verdict_is_that_of_the_numbers(
    effect: float, low: float, high: float, verdict: str
) -> None:
    numbers = {"effect": effect, "low": low, "high": high}
    for said in ("supported", "harmful", "negligible", "refuted", "slight", "undecided"):
        ledger = {"claims": [RECORD | numbers | {"verdict": said}]}
        assert (ledger_faults([good()], CLAIMS, ledger) == []) == (said == verdict)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.1, 3.0, "passed"), (-1.0, 0.9, "failed"), (-1.0, 3.0, "undecided")],
)
def test_the_verdict_of_a_control_is_that_of_its_numbers(
    low: float, high: float, verdict: str
) -> None:
    control = RECORD | {"effect": 0.5, "low": low, "high": high, "role": "mechanism off"}
    for said in ("passed", "failed", "undecided", "supported"):
        ledger = {"claims": [control | {"verdict": said}]}
        assert (ledger_faults([good()], CONTROLS, ledger) == []) == (said == verdict)


def test_a_page_made_from_the_ledger_needs_no_claim_parameters_exercises_or_equation() -> None:
    book = good()
    del book.notebook.cells[1:]
    book.notebook.cells[0].source = "# Start here"
    book.notebook.cells.append(new_code_cell("page.ledger()", execution_count=1))
    start = Book(Path("notebooks/0_start_here.ipynb"), book.notebook, 0)
    ledger = {"claims": [RECORD]}
    assert start.reads_ledger
    assert ledger_faults([good(), start], CLAIMS, ledger) == []
    assert hygiene.name(start) == hygiene.parameters(start) == []
    left_out = {hygiene.structure, hygiene.exercises, hygiene.headings, hygiene.answer_and_model}
    assert set(CHECKS) - set(checks(start)) == left_out
    start.code_cells[0].source = "print(1)"
    assert ledger_faults([good(), start], CLAIMS, ledger) != []
    assert hygiene.parameters(start) != []
    assert checks(start) == list(CHECKS)


def test_the_replication_must_be_that_of_stated_claims_with_as_many_seeds() -> None:
    def faults(**change: object) -> list[str]:
        one: Any = RECORD | {"seeds": 64} | change
        return replication_faults(Replication().with_page("3.1", "", [one]), [RECORD], CLAIMS)

    assert faults() == []
    assert faults(seeds=16) == []  # a recorded study, which the page shows as it is
    assert faults(seeds=32) != []
    assert faults(verdict="slight") != []
    assert faults(smallest=0.5) != []
    assert replication_faults(Replication(), [RECORD], CLAIMS) == []


@pytest.mark.parametrize(
    "change",
    [
        {"id": "3.1-b"},
        {"statement": "It hurts."},
        {"smallest": 0.5},
        {"seeds": 7},
        {"p": 1.5},
        {"low": 3.0},
        {"effect": 2.0000001},
        {"high": float("inf")},
        {"data": ""},
        {"role": "mechanism present"},
        {"notebook": "notebooks/other.ipynb"},
        {"more": 1},
    ],
    ids=str,
)
def test_a_wrong_record_is_found(change: dict) -> None:
    assert ledger_faults([good()], CLAIMS, {"claims": [RECORD | change]}) != []


@pytest.mark.parametrize(
    "records",
    [
        [],
        [RECORD, RECORD],
        [RECORD | {"data": "worlds"}, RECORD],
        [dict(reversed(RECORD.items()))],
    ],
    ids=["none", "twice", "unsorted", "fields in another order"],
)
def test_a_wrong_collection_of_records_is_found(records: list) -> None:
    assert ledger_faults([good()], CLAIMS, {"claims": records}) != []


def test_figures_and_images_must_match() -> None:
    assert figure_faults([good()], ["3_1_losses.png"]) == []
    assert figure_faults([good()], []) != []
    assert figure_faults([good()], ["3_1_losses.png", "3_1_more.png"]) != []
    assert figure_faults([good()], ["3_1_losses.png", "3_1_1_losses.png"]) != []
    assert figure_faults([good()], ["3_1_losses.png", "overview.png"]) != []
