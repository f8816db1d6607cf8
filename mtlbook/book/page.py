"""What a notebook needs: its parameters checked, its claims recorded, its figures saved.

Nothing that is shown holds a path, a time or a random id, so that outputs can be compared.
"""

import ast
import base64
import os
import random
import struct
from collections.abc import Collection, Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from IPython.core.getipython import get_ipython
from IPython.display import display
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mtlbook import devices
from mtlbook.book import claims as ledger
from mtlbook.book import figures, studies
from mtlbook.book.files import write_atomically
from mtlbook.book.parameters import COMMON, Rule, check
from mtlbook.book.progress import Item, each, show_progress
from mtlbook.book.table import render
from mtlbook.errors import UsageError
from mtlbook.statistics import paired_effect

DOTS_PER_INCH = 150
SCREEN_PIXELS_PER_INCH = 96


class Page:
    """A notebook of the book: its section, its checked parameters, and where its results go.

    Created in the cell behind the parameters. From there on PyTorch uses one thread (small
    matrices are slower with more, and notebooks run beside each other) and figures have the
    book's theme.

    Arguments:
        section: of the paper, such as "3.2".
        notebook: the notebook's `globals()`. Its parameters are checked, and written back in their
            own types: a whole number becomes a float where the parameter is one.
        rules: of each parameter beside `seeds`, `first_seed` and `device`, which every page has;
            written with literals, since `mtlbook run` reads them from the notebook's text.

    Raises:
        UsageError: for a value that its rule excludes, a GPU that this machine lacks, or a
            parameter that papermill was given and the notebook does not have.
    """

    def __init__(self, section: str, notebook: dict[str, Any], **rules: Rule) -> None:
        rules = COMMON | rules
        _refuse_unknown_parameters(rules)
        checked = check(rules, notebook)
        self.section = section
        first, count = cast(int, checked["first_seed"]), cast(int, checked["seeds"])
        self.seeds = range(first, first + count)
        self.device = devices.resolve(str(checked["device"]))
        self.dataset = str(checked.get("dataset", ""))
        notebook.update(checked)
        self._records: list[ledger.Record] = []
        torch.set_num_threads(1)
        _seed_global_generators(first)
        figures.theme()
        show_progress()

    def claim(
        self,
        id: str,  # noqa: A002
        *,
        method: ArrayLike,
        baseline: ArrayLike,
        data: str,
    ) -> None:
        """Measure a claim of this section, show the result, and record it.

        The contrast is the claim's own (`claims.toml`): metric, direction, unit and smallest
        effect. `method` and `baseline` hold the metric's value for each seed, in the seeds' order;
        `data` names what it was measured on.
        """
        claim = self._own_claim(id)
        effect = paired_effect(
            self._one_per_seed(id, "method", method),
            self._one_per_seed(id, "baseline", baseline),
            higher_is_better=claim.higher_is_better,
            relative=claim.relative,
        )
        record = ledger.record(claim, effect, data, _notebook(self.section))
        self._records = ledger.merge(self._records, [record])
        ledger.write_section(_output() / "claims" / f"{self.section}.json", self._records)
        print(_claim_text(claim, record))  # noqa: T201

    def progress(self, items: Iterable[Item], what: str) -> Iterator[Item]:
        """The items of a loop one by one, showing how many are done and what time is left.

        For loops that train or solve: `for overlap in page.progress(overlaps, "overlaps"):`.
        Trainings within share its line, which is gone when the cell ends.
        """
        return each(items, what)

    def study(self, name: str) -> studies.Record:
        """What a study of this section found on downloaded data, as it was recorded."""
        record = studies.read(name)
        if record.section != self.section:
            raise UsageError(f"the study {name} belongs to section {record.section}, not to this")
        return record

    def figure(self, figure: Figure, what: str, *, alt: str) -> None:
        """Save a figure as `<section>_<what>.png` and show it with its alternative text.

        `alt` says in words what the figure shows; it is what a screen reader reads and what is
        compared when the notebook is tested.
        """
        if not alt.strip():
            raise UsageError(f"figure {what!r} needs a text for those who can't see it: alt=...")
        png = _png(figure)
        plt.close(figure)
        name = f"{self.section.replace('.', '_')}_{what}.png"
        write_atomically(_output() / "figures" / name, png)
        width, height = struct.unpack(">II", png[16:24])  # the PNG header
        scale = SCREEN_PIXELS_PER_INCH / DOTS_PER_INCH
        size = {"width": round(width * scale), "height": round(height * scale)}
        display(
            {"image/png": base64.b64encode(png).decode(), "text/plain": alt},
            metadata={"image/png": {"alt": alt, **size}},
            raw=True,
        )

    def table(self, frame: pd.DataFrame, *, digits: int = 3, caption: str | None = None) -> None:
        """Show a table with a fixed number of decimals; a named index becomes columns."""
        text, html = render(frame, digits, caption)
        display({"text/plain": text, "text/html": html}, raw=True)

    def _own_claim(self, id: str) -> ledger.Claim:  # noqa: A002
        own = {
            key: claim for key, claim in ledger.claims().items() if claim.section == self.section
        }
        if id not in own:
            raise UsageError(
                f"section {self.section} has no claim {id!r}; "
                f"claims.toml states for it: {', '.join(own) or 'none'}"
            )
        return own[id]

    def _one_per_seed(self, id: str, side: str, values: ArrayLike) -> np.ndarray:  # noqa: A002
        array = np.asarray(values, dtype=np.float64)
        if array.shape != (len(self.seeds),):
            raise UsageError(
                f"claim {id!r}: {side} must hold one value for each of the {len(self.seeds)} "
                f"seeds, not an array of shape {array.shape}"
            )
        if not np.isfinite(array).all():
            seeds = [self.seeds[i] for i in np.flatnonzero(~np.isfinite(array))]
            raise UsageError(f"claim {id!r}: {side} is not finite for seeds {seeds}")
        return array


def _seed_global_generators(seed: int) -> None:
    """Seed what a library may draw from behind our back; the book's own draws never use it."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002


def _refuse_unknown_parameters(own: Collection[str]) -> None:
    """Refuse parameters that papermill injected but that the notebook doesn't have.

    papermill itself only warns. It runs what it injects in a cell of its own, which starts with
    `# Parameters`, right behind the notebook's parameters cell.
    """
    shell = get_ipython()
    cells: list[str] = shell.user_ns.get("In", []) if shell else []
    injected = [cell for cell in cells if cell.startswith("# Parameters\n")]
    unknown = sorted(_assigned(injected[-1]) - set(own)) if injected else []
    if unknown:
        raise UsageError(
            f"unknown parameter {', '.join(unknown)}; this notebook has: {', '.join(sorted(own))}"
        )


def _assigned(source: str) -> set[str]:
    """The names that the top level of a cell assigns."""
    try:
        body = ast.parse(source).body
    except SyntaxError:  # a magic command
        return set()
    targets = [
        target
        for statement in body
        if isinstance(statement, ast.Assign | ast.AnnAssign)
        for target in (
            statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        )
    ]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _output() -> Path:
    """Where results go: `MTLBOOK_OUTPUT`, else the folder `build` of the repository, or here."""
    chosen = os.environ.get("MTLBOOK_OUTPUT")
    if chosen:
        return Path(chosen)
    return (_repository(Path.cwd()) or Path.cwd()) / "build"


def _repository(start: Path) -> Path | None:
    for folder in (start, *start.parents):
        if (folder / "pyproject.toml").is_file() and (folder / "notebooks").is_dir():
            return folder
    return None


def _notebook(section: str) -> str:
    """The section's notebook relative to its repository; empty where no repository is found."""
    root = _repository(Path.cwd()) or _repository(Path(__file__).parent)
    pattern = f"notebooks/*/{section.replace('.', '_')}_[a-z]*.ipynb"
    found = sorted(root.glob(pattern)) if root else []
    return found[0].relative_to(root).as_posix() if root and found else ""


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    # matplotlib writes its version into a PNG unless told not to.
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()


def _claim_text(claim: ledger.Claim, record: ledger.Record) -> str:
    effect = ledger.effect_text(record["effect"], record["low"], record["high"], claim.unit)
    smallest = f"{claim.smallest:g} {'%' if claim.relative else ''}".rstrip()
    return (
        f"Claim {claim.id}: {claim.statement}\n"
        f"  {claim.metric} of {claim.method} against {claim.baseline}, on {record['data']}\n"
        f"  effect {effect}; smallest that matters {smallest}\n"
        f"  p = {record['p']:.3g} over {record['seeds']} seeds\n"
        f"  verdict: {record['verdict']}"
    )
