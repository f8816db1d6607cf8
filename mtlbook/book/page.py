"""What a notebook needs: its parameters checked, its claims recorded, its figures saved.

Nothing that is shown holds a path, a time or a random id, so that outputs can be compared.
"""

import ast
import base64
import os
import random
import re
import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from html import escape
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
from mtlbook.book import card, claims, figures, replication, studies
from mtlbook.book.claims import Result
from mtlbook.book.diagram import Diagram
from mtlbook.book.files import notebook_of, repository, write_atomically
from mtlbook.book.ledger import frame
from mtlbook.book.parameters import COMMON, Rule, check
from mtlbook.book.progress import Item, each, show_progress
from mtlbook.book.table import render
from mtlbook.errors import UsageError
from mtlbook.statistics import Effect, contributions, control_effect, paired_effect

DOTS_PER_INCH = 150
SCREEN_PIXELS_PER_INCH = 96
# {id|data} or {id|data|verdict} in the sentences of an answer
_REFERENCE = re.compile(r"\{(?P<id>[^{}|]+)\|(?P<data>[^{}|]+)(?:\|(?P<what>verdict))?\}")


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
        # A page that is made from the ledger trains nothing: it has neither seeds nor a device.
        rules = COMMON | rules if COMMON.keys() & notebook.keys() else rules
        _refuse_unknown_parameters(rules)
        checked = check(rules, notebook)
        self.section = section
        first, count = cast(int, checked.get("first_seed", 0)), cast(int, checked.get("seeds", 0))
        self.seeds = range(first, first + count)
        self.device = devices.resolve(str(checked.get("device", "cpu")))
        self.dataset = str(checked.get("dataset", ""))
        notebook.update(checked)
        self._records: list[claims.Record] = []
        self._figures: list[str] = []
        self._replication = replication.read()
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
        study: studies.Record | None = None,
    ) -> Result:
        """Measure a claim of this section, show the result as a card, and record it.

        The contrast is the claim's own (`claims.toml`): metric, direction, unit and smallest
        effect. `method` and `baseline` hold the metric's value for each seed, in the seeds' order;
        `data` names what it was measured on. The seeds are the page's, or those of a `study`.
        """
        claim = self._own_claim(id)
        if claim.control:
            raise UsageError(f"{id!r} is the control of {claim.of!r}: measure it by page.control")
        sides, shares = self._compared(claim, method, baseline, study)
        found = paired_effect(*sides, **_direction(claim))
        return self._recorded(claim, found, shares, data, study)

    def control(
        self,
        id: str,  # noqa: A002
        *,
        on: Result,
        method: ArrayLike,
        baseline: ArrayLike,
        data: str,
        study: studies.Record | None = None,
    ) -> Result:
        """Measure a negative control: what the claim's effect loses with the mechanism off.

        Arguments:
            id: of the control.
            on: the result of the claim with the mechanism present.
            method: the metric of the method for each seed, with the mechanism off.
            baseline: that of the baseline, with the mechanism off.
            data: what it was measured on.
            study: as for `claim`.
        """
        claim = self._own_claim(id)
        if claim.of != on.claim.id:
            belongs = f"is that of {claim.of!r}" if claim.of else "is none"
            raise UsageError(f"{id!r} as a control of {on.claim.id!r}: it {belongs}")
        sides, shares = self._compared(claim, method, baseline, study)
        found = control_effect(on.contributions, shares)
        off = paired_effect(*sides, **_direction(claim))
        return self._recorded(claim, found, on.contributions - shares, data, study, off=off)

    def _compared(
        self,
        claim: claims.Claim,
        method: ArrayLike,
        baseline: ArrayLike,
        study: studies.Record | None,
    ) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        """Both sides of a contrast, and what each seed contributes to the effect."""
        seeds = self.seeds if study is None else study.seeds
        sides = (
            _one_per_seed(claim.id, "method", method, seeds),
            _one_per_seed(claim.id, "baseline", baseline, seeds),
        )
        return sides, contributions(*sides, **_direction(claim))

    def _recorded(
        self,
        claim: claims.Claim,
        found: Effect,
        shares: np.ndarray,
        data: str,
        study: studies.Record | None,
        off: Effect | None = None,
    ) -> Result:
        record = claims.record(claim, found, data, notebook_of(self.section))
        self._records = claims.merge(self._records, [record])
        claims.write_section(_output() / "claims" / f"{self.section}.json", self._records)
        shown = card.lines(record, self._replication.find(claim.id, data), study=study is not None)
        note = f"With the mechanism off: {claims.effect_of(claim, off)}." if off else ""
        _display(plain=card.plain(claim, shown, off=note), html=card.html(claim, shown, off=note))
        return Result(claim, record, shares)

    def answer(self, *sentences: str) -> None:
        """Show the answer of the page so far, from the replication that is committed.

        `{4.5-in-addition|digits}` in a sentence becomes the effect of a claim on a data set with
        its interval, `{4.5-in-addition|digits|verdict}` its verdict.
        """
        text = " ".join(sentences)
        _markdown("**The answer so far.** " + _REFERENCE.sub(self._replicated, text), quoted=True)

    def by(self, id: str, data: str, *, otherwise: str, **sentences: str) -> str:  # noqa: A002
        """The sentence for the verdict that the replication gave a claim on a data set.

        Arguments:
            id: of the claim.
            data: what it was measured on.
            otherwise: for verdicts without a sentence, and where nothing is replicated yet.
            **sentences: by verdict: supported, slight, harmful, and so on.
        """
        record = self._replication.find(id, data)
        return claims.choose(record["verdict"] if record else "", otherwise, sentences)

    def finding(self, *paragraphs: str) -> None:
        """Show what was found, in sentences whose numbers are computed."""
        _markdown("\n\n".join(paragraphs))

    def _replicated(self, match: re.Match[str]) -> str:
        id, data, what = match["id"], match["data"], match["what"]  # noqa: A001
        if id not in claims.claims():
            raise UsageError(f"the answer speaks of an unknown claim: {match[0]}")
        claim = claims.claims()[id]
        claims.role(claim, data)
        record = self._replication.find(id, data)
        if record is None:
            return "(not replicated yet)"
        if what == "verdict":
            return record["verdict"]
        return claims.effect_text(record["effect"], record["low"], record["high"], claim.unit)

    def progress(self, items: Iterable[Item], what: str) -> Iterator[Item]:
        """The items of a loop one by one, showing how many are done and what time is left.

        For loops that train or solve: `for overlap in page.progress(overlaps, "overlaps"):`.
        Trainings within share its line, which is gone when the cell ends.
        """
        return each(items, what)

    def ledger(self) -> pd.DataFrame:
        """All that the book found: see :func:`mtlbook.book.ledger.frame`."""
        return frame()

    def study(self, name: str) -> studies.Record:
        """What a study of this section found on downloaded data, as it was recorded."""
        record = studies.read(name)
        if record.section != self.section:
            raise UsageError(f"the study {name} belongs to section {record.section}, not to this")
        return record

    def figure(self, figure: Figure, what: str, *, caption: str, alt: str) -> None:
        """Save a figure as `<section>_<what>.png` and show it with its number and its caption.

        `caption` begins with the message. `alt` says in words what the figure shows; it is what a
        screen reader reads and, with the caption, what is compared when the notebook is tested.
        """
        for name, text in {"alt": alt, "caption": caption}.items():
            if not text.strip():
                raise UsageError(f"figure {what!r} needs its {name}: a text, not an empty one")
        png = _png(figure)
        plt.close(figure)
        name = f"{self.section.replace('.', '_')}_{what}.png"
        write_atomically(_output() / "figures" / name, png)
        if name not in self._figures:
            self._figures.append(name)
        number = f"{self.section}.{self._figures.index(name) + 1}"
        width, height = struct.unpack(">II", png[16:24])  # the PNG header
        scale = SCREEN_PIXELS_PER_INCH / DOTS_PER_INCH
        source = base64.b64encode(png).decode()
        _display(
            plain=f"Figure {number}. {caption}\n[{alt}]",
            html=(
                f'<figure id="figure-{number.replace(".", "-")}">\n'
                f'<img alt="{escape(alt)}" width="{round(width * scale)}" '
                f'height="{round(height * scale)}" src="data:image/png;base64,{source}">\n'
                f"<figcaption><b>Figure {number}.</b> {escape(caption)}</figcaption>\n</figure>"
            ),
        )

    def model(self, picture: Diagram, *, caption: str, alt: str) -> None:
        """Show the picture of the page's model, a figure like the others."""
        self.figure(picture.draw(), "model", caption=caption, alt=alt)

    def table(self, frame: pd.DataFrame, *, digits: int = 3, caption: str | None = None) -> None:
        """Show a table with a fixed number of decimals; a named index becomes columns."""
        text, html = render(frame, digits, caption)
        display({"text/plain": text, "text/html": html}, raw=True)

    def _own_claim(self, id: str) -> claims.Claim:  # noqa: A002
        own = {
            key: claim for key, claim in claims.claims().items() if claim.section == self.section
        }
        if id not in own:
            raise UsageError(
                f"section {self.section} has no claim {id!r}; "
                f"claims.toml states for it: {', '.join(own) or 'none'}"
            )
        return own[id]


def _one_per_seed(id: str, side: str, values: ArrayLike, seeds: Sequence[int]) -> np.ndarray:  # noqa: A002
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (len(seeds),):
        raise UsageError(
            f"claim {id!r}: {side} must hold one value for each of the {len(seeds)} "
            f"seeds, not an array of shape {array.shape}"
        )
    if not np.isfinite(array).all():
        wrong = [seeds[i] for i in np.flatnonzero(~np.isfinite(array)).tolist()]
        raise UsageError(f"claim {id!r}: {side} is not finite for seeds {wrong}")
    return array


def _direction(claim: claims.Claim) -> dict[str, bool]:
    return {"higher_is_better": claim.higher_is_better, "relative": claim.relative}


def _display(plain: str, html: str) -> None:
    display({"text/plain": plain, "text/html": html}, raw=True)


def _markdown(text: str, *, quoted: bool = False) -> None:
    marked = "\n".join(f"> {line}".rstrip() for line in text.split("\n")) if quoted else text
    display({"text/plain": text, "text/markdown": marked}, raw=True)


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
    return (repository(Path.cwd()) or Path.cwd()) / "build"


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    # matplotlib writes its version into a PNG unless told not to.
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()
