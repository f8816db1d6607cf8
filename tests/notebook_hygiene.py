"""What a notebook of the book must be: each check is a small function that says what is wrong.

The checks read a notebook and never run it: nbval does that, but passes a notebook that was never
executed, and says nothing about its form.
"""

import ast
import contextlib
import io
import os
import re
import sys
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbval.plugin import comment_markers, metadata_tags

from mtlbook.book import exercises as mechanism
from mtlbook.book.runner.cells import Cell, reads_ledger
from mtlbook.book.runner.clean import KERNEL, LANGUAGE, OWN
from mtlbook.errors import UsageError
from tests.project import importable_dependencies, imported, notebooks

LEAST_SEEDS = 16
LEAST_EXERCISES = 2
BUDGET = {
    "visible": (250, "visible lines of code"),
    "total": (400, "lines of code"),
    "words": (2_500, "words of prose"),
    "tables": (5, "tables"),
    "figures": (6, "figures"),
    "first result": (60, "visible lines of code before and with the first result"),
}
"""What a page holds at most; it may say why it holds more, in its metadata: `over_budget`."""
RESULTS = {"page.claim", "page.control", "page.figure", "page.table"}
BANNED = ("look whether", "none was known when")
LONGEST_FUNCTION = 30
LARGEST_FILE = 2_000_000

FILE_NAME = re.compile(r"(\d+(?:_\d+)*)_[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
FOLDER_NAME = re.compile(r"(\d+)_[a-z][a-z0-9]*(?:_[a-z0-9]+)*")

# What differs from machine to machine. Longer patterns than a name alone, for prose says "home".
MACHINE_PATH = re.compile(
    r"(?<![\w.:/])/(?:home|root|work|tmp|Users|mnt|opt|usr|var)/|\b[A-Z]:\\[\w ]+\\"
)
TIMESTAMP = re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d|\b\d\d:\d\d:\d\d\b")
PROGRESS_BAR = re.compile(r"\bit/s\b|\bs/it\b|%\||\r|━")
WARNING = re.compile(r"\w*Warning\b|\bWARNING\b")
PRECISION = re.compile(r"torch\.\w+|\w*dtype|\w+\.dtype")
MEMORY_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}")


@dataclass(frozen=True)
class Book:
    """A notebook with its path relative to the root of the book."""

    path: Path
    notebook: NotebookNode
    size: int

    @classmethod
    def read(cls, root: Path, path: Path) -> "Book":
        """Read and validate a notebook of the book at `root`."""
        notebook = nbformat.read(root / path, as_version=4)
        nbformat.validate(notebook)
        return cls(path, notebook, (root / path).stat().st_size)

    @property
    def section(self) -> str:
        """The paper's section, "3.1" for `3_1_hard_parameter_sharing.ipynb`."""
        return section_of(self.path.stem)

    @property
    def reads_ledger(self) -> bool:
        """Whether the page is made from what the others found: it experiments with nothing."""
        return reads_ledger(
            Cell(one.cell_type, one.source, tuple(one.metadata.get("tags", [])))
            for one in self.notebook.cells
        )

    @property
    def code_cells(self) -> list[NotebookNode]:
        """All code cells."""
        return [cell for cell in self.notebook.cells if cell.cell_type == "code"]

    @property
    def prose(self) -> list[str]:
        """The sources of the markdown cells."""
        return [cell.source for cell in self.notebook.cells if cell.cell_type == "markdown"]

    @property
    def outputs(self) -> list[NotebookNode]:
        """All outputs of all cells."""
        return [output for cell in self.code_cells for output in cell.outputs]

    @cached_property
    def trees(self) -> list[ast.Module]:
        """The syntax trees of the cells that are plain Python."""
        return [tree for cell in self.code_cells if (tree := parse(cell.source)) is not None]


Check = Callable[[Book], list[str]]


def section_of(stem: str) -> str:
    """The section that a file's name starts with; empty where it starts with none."""
    match = re.match(r"\d+(?:_\d+)*(?=_[a-z])", stem)
    return match[0].replace("_", ".") if match else ""


def parse(source: str) -> ast.Module | None:
    """The syntax tree of a cell, or None where it is not plain Python."""
    try:
        return ast.parse(source)
    except SyntaxError:
        return None


def name(book: Book) -> list[str]:
    """The file is `<section>_<title>.ipynb` in a folder with the number of its chapter.

    The page that the book begins with, section 0, lies in no chapter's folder.
    """
    file, folder = FILE_NAME.fullmatch(book.path.stem), FOLDER_NAME.fullmatch(book.path.parent.name)
    if not file:
        return [f"{book.path.name} is not <section>_<title>.ipynb in small letters"]
    if book.section == "0":
        wrong = book.path.parent.as_posix() != "notebooks"
        return [f"section 0 lies in {book.path.parent}, not in notebooks"] if wrong else []
    if not folder or len(book.path.parts) != 3 or book.path.parts[0] != "notebooks":
        return [f"{book.path.parent} is not notebooks/<chapter>_<title>"]
    if folder[1] != file[1].split("_")[0]:
        return [f"section {book.section} lies in the folder of chapter {folder[1]}"]
    return []


def executed(book: Book) -> list[str]:
    """Every code cell was executed, from top to bottom in a fresh kernel, without an error."""
    counts = [cell.execution_count for cell in book.code_cells]
    faults = []
    if counts != list(range(1, len(counts) + 1)):
        faults.append(f"not executed once from top to bottom: the counts are {counts}")
    if not any(book.outputs):
        faults.append("no cell has an output")
    if any(output.output_type == "error" for output in book.outputs):
        faults.append("an output is an error")
    return faults


def parameters(book: Book) -> list[str]:
    """The first code cell, and no other, is tagged `parameters` and holds commented literals.

    A page that reads the ledger may have none.
    """
    tagged = [
        number
        for number, cell in enumerate(book.code_cells)
        if "parameters" in cell.metadata.get("tags", [])
    ]
    if book.reads_ledger and not tagged:
        return []
    if tagged != [0]:
        return [f"the first code cell alone must be tagged `parameters`; tagged are {tagged}"]
    source = book.code_cells[0].source
    tree = parse(source)
    if tree is None:
        return ["the parameters are not plain Python"]
    faults, values = [], {}
    commented = lines_with_comments(source)
    for statement in tree.body:
        match literal_assignment(statement):
            case (str(target), value):
                values[target] = value
                if not commented & set(range(statement.lineno, (statement.end_lineno or 0) + 1)):
                    faults.append(f"parameter {target} has no comment on its line")
            case _:
                faults.append(f"not a literal assignment: {ast.unparse(statement)}")
    return faults if book.reads_ledger else faults + common_parameters(values)


def literal_assignment(statement: ast.stmt) -> tuple[str, object] | None:
    """The name and the value of a statement such as `seeds = 16`."""
    match statement:
        case ast.Assign(targets=[ast.Name(id=target)], value=value):
            try:
                return target, ast.literal_eval(value)
            except ValueError:
                return None
    return None


def lines_with_comments(source: str) -> set[int]:
    """The numbers of the lines that hold a comment."""
    tokens = tokenize.generate_tokens(StringIO(source).readline)
    return {token.start[0] for token in tokens if token.type == tokenize.COMMENT}


def common_parameters(values: dict[str, object]) -> list[str]:
    """What is wrong with the parameters that every notebook has."""
    faults = [
        f"parameter {key} must be a {kind.__name__}, not {values.get(key)!r}"
        for key, kind in {"seeds": int, "first_seed": int, "device": str, "dataset": str}.items()
        if type(values.get(key)) is not kind
    ]
    seeds = values.get("seeds")
    if isinstance(seeds, int) and seeds < LEAST_SEEDS:
        faults.append(f"seeds = {seeds}: at least {LEAST_SEEDS} are needed")
    return faults


def metadata(book: Book) -> list[str]:
    """The metadata are those that JupyterLab writes, so that opening a page doesn't change it."""
    wanted = {"kernelspec": KERNEL, "language_info": LANGUAGE}
    found = {key: value for key, value in book.notebook.metadata.items() if key != OWN}
    faults = [
        f"metadata {key} must be {wanted.get(key)}, not {found.get(key)}"
        for key in wanted | found
        if key != "widgets" and found.get(key) != wanted.get(key)
    ]
    if book.notebook.nbformat_minor != 5:
        faults.append(f"format 4.{book.notebook.nbformat_minor}, not 4.5")
    return faults


def no_widgets(book: Book) -> list[str]:
    """No widget state is saved: a notebook with one is not rendered by GitHub."""
    widgets = [
        kind for output in book.outputs for kind in output.get("data", {}) if "widget" in kind
    ]
    if "widgets" in book.notebook.metadata:
        widgets.append("the notebook's metadata")
    return [f"widget state in {place}" for place in widgets]


def nothing_of_the_machine(book: Book) -> list[str]:
    """Neither sources nor outputs nor metadata hold an absolute path or a time."""
    patterns = {"an absolute path": MACHINE_PATH, "a time": TIMESTAMP}
    return [f"{what}: {hit}" for what, hit in find(patterns, [*sources(book), *shown(book)])]


def quiet_outputs(book: Book) -> list[str]:
    """No output is a progress bar, a warning or a memory address, or went to stderr."""
    patterns = {
        "a progress bar": PROGRESS_BAR,
        "a warning": WARNING,
        "a memory address": MEMORY_ADDRESS,
    }
    faults = [f"{what}: {hit}" for what, hit in find(patterns, shown(book))]
    return faults + [
        f"on stderr: {output.text}" for output in book.outputs if output.get("name") == "stderr"
    ]


def find(patterns: dict[str, re.Pattern[str]], texts: list[str]) -> Iterator[tuple[str, str]]:
    """Each pattern that is found in the texts, with the piece of text around it."""
    for what, pattern in patterns.items():
        for text in texts:
            if match := pattern.search(text):
                yield what, text[max(0, match.start() - 30) : match.end() + 30]


def sources(book: Book) -> list[str]:
    """The cells' sources, and the metadata of the cells and of the notebook."""
    said = [str(cell.metadata) for cell in book.notebook.cells]
    return [cell.source for cell in book.notebook.cells] + [*said, str(book.notebook.metadata)]


def shown(book: Book) -> list[str]:
    """The texts of the outputs."""
    texts = [output.text for output in book.outputs if output.output_type == "stream"]
    for output in book.outputs:
        data = output.get("data", {})
        # An image within HTML is as many random characters, among them any pattern.
        texts += [
            re.sub(r"data:image/[^\"]*", "", str(text))
            for kind, text in data.items()
            if not kind.startswith("image/")
        ]
    return texts


def strict(book: Book) -> list[str]:
    """No cell asks nbval to skip or to ignore it, or hides its value by a semicolon.

    nbval shows the value of a cell in spite of its semicolon, and then finds it unexpected.
    """
    faults = []
    for cell in book.code_cells:
        tags = set(cell.metadata.get("tags", [])) & set(metadata_tags)
        comments = {line.strip().lstrip("# ") for line in cell.source.splitlines() if "#" in line}
        faults += [f"nbval is told {told}" for told in tags | (comments & set(comment_markers))]
        if cell.source.rstrip().endswith(";"):
            faults.append(
                f"a semicolon ends the cell: assign its value to _ instead: {cell.source}"
            )
    return faults


def images_have_alternative_texts(book: Book) -> list[str]:
    """Every image, in outputs and in prose, says in words what it shows."""
    faults = [
        f"an output of type {kind} has no alternative text"
        for output in book.outputs
        for kind in output.get("data", {})
        if kind.startswith("image/") and not output.metadata.get(kind, {}).get("alt", "").strip()
    ]
    html = [output.get("data", {}).get("text/html", "") for output in book.outputs]
    for text in [*book.prose, *html]:
        faults += [f"no alternative text: {hit}" for hit in re.findall(r"!\[\s*\]\([^)]*\)", text)]
        images = re.findall(r"<img\b[^>]*>", text)
        faults += [
            f"no alternative text: {hit}" for hit in images if not re.search(r'alt="[^"]', hit)
        ]
    return faults


def structure(book: Book) -> list[str]:
    """The parts that every notebook has, as far as a program can see them."""
    first = book.notebook.cells[0].source if book.notebook.cells else ""
    headings = re.findall(r"^(#+) +(.+?) *$", "\n".join(book.prose), re.MULTILINE)
    titles = [text for marks, text in headings if marks == "#"]
    wanted = {
        "the notebook must start with its title": re.match(r"# \S", first),
        f"the first cell must name section {book.section}": re.search(
            rf"(?:§|[Ss]ection) ?{re.escape(book.section)}(?![.\d]*\d)", first
        ),
        "the first cell must cite Ruder (2017)": "Ruder" in first and "2017" in first,
        "there must be one title": len(titles) == 1,
        "an equation is missing": any("$$" in text for text in book.prose),
    }
    faults = [fault for fault, good in wanted.items() if not good]
    found = [text.lower() for marks, text in headings if marks != "#"]
    return faults + [
        f"the heading {part!r} is missing"
        for part in ("When it fails", "Exercises", "References")
        if not any(part.lower() in text for text in found)
    ]


def headings(book: Book) -> list[str]:
    """The title names the section, and the parts are numbered after it: ## 4.5.1, ## 4.5.2, …"""
    found = re.findall(r"^(##?) +(.+?) *$", "\n".join(without_code(book)), re.MULTILINE)
    titles = [text for marks, text in found if marks == "#"]
    number = rf"(?<![\d.]){re.escape(book.section)}(?!\.?\d)"
    faults = [
        f"the title {text!r} does not name section {book.section}"
        for text in titles
        if not re.search(number, text)
    ]
    parts = [text for marks, text in found if marks == "##"]
    for place, part in enumerate(parts, start=1):
        wanted = f"{book.section}.{place} "
        if not part.startswith(wanted):
            faults.append(f"the heading {part!r} must start with {wanted!r}")
    return faults


def without_code(book: Book) -> list[str]:
    """The prose without blocks of code, whose comments look like headings."""
    return [re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL) for text in book.prose]


def reading_order(path: Path) -> tuple[int, tuple[float, ...]]:
    """The place of a page: by its numbers, and what concerns a chapter behind its sections."""
    numbers = tuple(float(number) for number in section_of(path.stem).split(".") if number)
    return int(numbers[0]) if numbers else 0, (numbers[1:] or (float("inf"),))


def links(book: Book) -> list[str]:
    """The prose links to the page before and to the page after."""
    order = sorted({*notebooks(), book.path}, key=reading_order)
    place = order.index(book.path)
    targets = {
        target.partition("#")[0]
        for text in book.prose
        for target in re.findall(r"\]\(([^)\s]+)\)", text)
    }
    faults = []
    for neighbour in order[max(0, place - 1) : place] + order[place + 1 : place + 2]:
        wanted = Path(os.path.relpath(neighbour, book.path.parent)).as_posix()
        if wanted not in targets:
            faults.append(f"no link to {wanted}")
    return faults


def calls(trees: list[ast.Module], names: set[str]) -> list[ast.Call]:
    """The calls of functions with these names, such as `page.table`, in the order of the text."""
    found = [
        node
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in names
    ]
    return sorted(found, key=lambda call: call.lineno)


def answer_and_model(book: Book) -> list[str]:
    """The page starts with its answer and shows a picture of the model."""
    return [
        f"{name}(...) is called nowhere"
        for name in ("page.answer", "page.model")
        if not calls(book.trees, {name})
    ]


def checked_exercises(book: Book) -> list[str]:
    """The exercises that the page's cells check, by name."""
    return [
        str(call.args[0].value)
        for call in calls(book.trees, {"exercises.check"})
        if call.args and isinstance(call.args[0], ast.Constant)
    ]


def exercises(book: Book) -> list[str]:
    """There are exercises of this section that the reader can check, one of them a prediction."""
    ids = checked_exercises(book)
    faults = [
        f"exercise {one!r} is not of section {book.section}"
        for one in ids
        if one.rpartition(".")[0] != book.section
    ]
    if len(set(ids)) < LEAST_EXERCISES:
        faults.append(
            f"exercises.check is called for {ids}: {LEAST_EXERCISES} exercises are needed"
        )
    if not any(is_prediction(one) for one in ids):
        faults.append("no exercise asks for a prediction before the dial is turned")
    return faults


def is_prediction(id: str) -> bool:  # noqa: A002
    """Whether an exercise exists and is of the kind *predict, turn the dial, explain*."""
    try:
        return isinstance(mechanism.get(id), mechanism.Prediction)
    except UsageError:
        return False


def exercises_alone(book: Book) -> list[str]:
    """A cell that checks an exercise is tagged `exercise` and runs in a fresh kernel by itself."""
    faults = []
    for cell in book.code_cells:
        tree = parse(cell.source)
        tagged = "exercise" in cell.metadata.get("tags", [])
        if tree and calls([tree], {"exercises.check"}) and not tagged:
            faults.append(f"not tagged `exercise`: {cell.source}")
        if tree and tagged:
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    exec(compile(tree, "exercise", "exec"), {"__name__": "__main__"})
            except Exception as error:
                faults.append(f"alone it raises {type(error).__name__}: {error}: {cell.source}")
    return faults


def lines(source: str) -> list[str]:
    """The lines of a source that are not blank."""
    return [line for line in source.splitlines() if line.strip()]


def is_visible(cell: NotebookNode) -> bool:
    """Whether the reader sees the source of a code cell without unfolding it."""
    return "hide-input" not in cell.metadata.get("tags", [])


def lines_to_first_result(book: Book) -> int | None:
    """The visible lines of code up to the one that shows a first result; None without a result."""
    before = 0
    for cell in book.code_cells:
        tree = parse(cell.source)
        found = calls([tree], RESULTS) if tree else []
        if found:
            own = "\n".join(cell.source.splitlines()[: found[0].lineno])
            return before + is_visible(cell) * len(lines(own))
        before += is_visible(cell) * len(lines(cell.source))
    return None


def tables(book: Book) -> int:
    """The tables in outputs (those of pandas and of `page.table`) and in the prose."""
    shown_tables = sum(
        str(output.get("data", {}).get("text/html", "")).count('class="dataframe')
        for output in book.outputs
    )
    rules = r"^ *\|?(?: *:?-+:? *\|)+ *(?::?-+:? *)?$"
    return shown_tables + len(re.findall(rules, "\n".join(without_code(book)), re.MULTILINE))


def pictures(book: Book) -> int:
    """The figures in outputs and in the prose."""
    outputs = [output.get("data", {}) for output in book.outputs]
    drawn = sum(
        any(kind.startswith("image/") for kind in data)
        or "<figure" in str(data.get("text/html", ""))
        for data in outputs
    )
    return drawn + sum(len(re.findall(r"!\[|<img\b", text)) for text in book.prose)


def words(book: Book) -> int:
    """The words of the prose; a formula's symbols between blanks count as words with a letter."""
    return sum(any(map(str.isalnum, word)) for text in book.prose for word in text.split())


def budget(book: Book) -> list[str]:
    """A page is short enough to be read in 45 minutes, or says why it is not."""
    code = [cell.source for cell in book.code_cells]
    first = lines_to_first_result(book)
    found = {
        "visible": sum(len(lines(cell.source)) for cell in book.code_cells if is_visible(cell)),
        "total": sum(len(lines(source)) for source in code),
        "words": words(book),
        "tables": tables(book),
        "figures": pictures(book),
        "first result": first or 0,
    }
    reasons = dict(book.notebook.metadata.get(OWN, {}).get("over_budget", {}))
    faults = [] if first else ["no cell shows a result"]
    for key, (limit, what) in BUDGET.items():
        reason = str(reasons.pop(key, "")).strip()
        if found[key] > limit and not reason:
            faults.append(
                f"{found[key]} {what}: {limit} are the most (over_budget says why: {key})"
            )
        if found[key] <= limit and reason:
            faults.append(f"over_budget says why there are too many {what}, but there are not")
    return faults + [f"over_budget knows no limit {key!r}" for key in reasons]


def plain_words(book: Book) -> list[str]:
    """No phrase that leaves the interpretation to the reader, or a claim's history in the dark."""
    texts = [*book.prose, *(cell.source for cell in book.code_cells), *shown(book)]
    return [
        f"the phrase {phrase!r} is banned"
        for phrase in BANNED
        if any(phrase in " ".join(text.lower().split()) for text in texts)
    ]


def plain_python(book: Book) -> list[str]:
    """No cell is empty, or needs IPython's magics or a shell."""
    faults = [
        f"not plain Python: {cell.source}" for cell in book.code_cells if not parse(cell.source)
    ]
    empty = [cell for cell in book.notebook.cells if not cell.source.strip()]
    return faults + ["a cell is empty" for _ in empty]


def short_functions(book: Book) -> list[str]:
    """What is longer than a screen belongs into the package."""
    return [
        f"{function.name} has {length} lines, more than {LONGEST_FUNCTION}"
        for function in functions(book.trees)
        if (length := (function.end_lineno or 0) - function.lineno + 1) > LONGEST_FUNCTION
    ]


def functions(trees: list[ast.Module]) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """The functions and classes that are defined anywhere in the trees."""
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield node


def declared_imports(book: Book) -> list[str]:
    """Only this package, what it declares as a dependency, and the standard library."""
    names = {module.partition(".")[0] for tree in book.trees for module in imported(tree)}
    undeclared = sorted(
        names - sys.stdlib_module_names - importable_dependencies(frozenset({"book"})) - {"mtlbook"}
    )
    return [f"{one} is not a declared dependency" for one in undeclared]


def moves_no_data(book: Book) -> list[str]:
    """No cell moves data between devices: the library trains on the page's, and leaves the CPU's.

    A cell that does works on the machine of its author, and mixes devices on the next one.
    """
    return [
        f"moves data by hand: {ast.unparse(call)}"
        for tree in book.trees
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and is_a_move(call)
    ]


def is_a_move(call: ast.Call) -> bool:
    """Whether a call places tensors or modules on a device; `.to` may change the precision."""
    function = ast.unparse(call.func)
    owner, _, method = function.rpartition(".")
    if not owner:
        return False
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    if method == "to":
        return not all(PRECISION.fullmatch(ast.unparse(value)) for value in values)
    of_pytorch = owner.split(".")[0] in {"torch", "nn"} or method.startswith("new_")
    given = of_pytorch and any(keyword.arg == "device" for keyword in call.keywords)
    return given or method in {"cuda", "cpu", "set_default_device"} or function == "torch.device"


def small(book: Book) -> list[str]:
    """A notebook is small enough to be rendered by GitHub and to be kept in git."""
    return [] if book.size < LARGEST_FILE else [f"{book.size} bytes: {LARGEST_FILE} is the most"]


CHECKS: tuple[Check, ...] = (
    name,
    executed,
    parameters,
    metadata,
    no_widgets,
    nothing_of_the_machine,
    quiet_outputs,
    strict,
    images_have_alternative_texts,
    structure,
    headings,
    links,
    answer_and_model,
    exercises,
    exercises_alone,
    budget,
    plain_words,
    plain_python,
    short_functions,
    declared_imports,
    moves_no_data,
    small,
)
OF_EXPERIMENTS = (structure, headings, answer_and_model, exercises)
"""The checks of pages with experiments: one that is made from the ledger teaches no method."""


def checks(book: Book) -> list[Check]:
    """The checks that a notebook has to pass."""
    return [check for check in CHECKS if not (check in OF_EXPERIMENTS and book.reads_ledger)]


def canonical(function: ast.FunctionDef | ast.ClassDef) -> str:
    """A function's code without its name, docstring, annotations, and choice of local names."""
    copy = ast.parse(ast.unparse(function)).body[0]
    assert isinstance(copy, ast.FunctionDef | ast.ClassDef)
    numbers: dict[str, str] = {copy.name: "itself"}
    for node in ast.walk(copy):
        own = node.arg if isinstance(node, ast.arg) else None
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own = node.id
        if own:
            numbers.setdefault(own, f"local{len(numbers)}")
    for node in ast.walk(copy):
        if isinstance(node, ast.arg):
            node.arg, node.annotation = numbers[node.arg], None
        elif isinstance(node, ast.Name):
            node.id = numbers.get(node.id, node.id)
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
    copy.name, copy.decorator_list = "itself", []
    if ast.get_docstring(copy) is not None:
        copy.body = copy.body[1:]
    return ast.dump(copy)


def is_substantial(function: ast.FunctionDef | ast.ClassDef) -> bool:
    """Whether a function is long enough that two alike are a copy and no accident."""
    statements = sum(isinstance(node, ast.stmt) for node in ast.walk(function))
    return statements - 1 - (ast.get_docstring(function) is not None) >= 2


def copies(
    notebooks: dict[str, list[ast.Module]], package: dict[str, list[ast.Module]]
) -> list[str]:
    """The functions of notebooks that are defined in a second place, too, under whatever name."""
    places: dict[str, list[str]] = {}
    for place, trees in (notebooks | package).items():
        for function in functions(trees):
            if is_substantial(function):
                places.setdefault(canonical(function), []).append(f"{function.name} in {place}")
    known = {canonical(function) for trees in notebooks.values() for function in functions(trees)}
    return [" = ".join(found) for code, found in places.items() if len(found) > 1 and code in known]
