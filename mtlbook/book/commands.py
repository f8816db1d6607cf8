"""What the command line does: `mtlbook list | run | replicate | report | book | study | data`."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mtlbook.book import replication
from mtlbook.book.interruption import INTERRUPTED, unwind
from mtlbook.book.parameters import LONGEST_MESSAGE, shortened, shown
from mtlbook.book.replication import FIRST_SEED, SEEDS
from mtlbook.book.runner.book import Book, find_notebooks, open_book, select
from mtlbook.book.runner.cluster import check_scheduler, cluster
from mtlbook.book.runner.local import cores, local
from mtlbook.book.runner.plan import Settings, plan
from mtlbook.book.runner.replicate import plan_replication, stale
from mtlbook.book.runner.replicate import replicate as repeat
from mtlbook.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from mtlbook.book.runner.run import Backend

FAILED = 1
USAGE = 2

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="The executable companion to Ruder's overview of multi-task learning.",
)
data = typer.Typer(no_args_is_help=True, help="The downloaded data sets.")
app.add_typer(data, name="data")

Notebooks = Annotated[
    Path | None,
    typer.Option(
        "--notebooks", metavar="DIR", help="The book's notebooks; default: those of this clone."
    ),
]
Jobs = Annotated[int | None, typer.Option(min=1, help="Chapters at a time; default: one a core.")]
Scheduler = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Send the chapters to this Dask scheduler."),
]
Names = Annotated[list[str] | None, typer.Argument(metavar="NAMES", help="Default: all.")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 1 = a chapter failed, 2 = wrong usage."""
    try:
        code = app(
            join_parameters(sys.argv[1:] if arguments is None else arguments), standalone_mode=False
        )
    except UsageError as error:
        return _refuse(str(error))
    except typer.TyperException as error:
        return _refuse(f"{error.format_message()} (mtlbook COMMAND --help shows the possible ones)")
    except typer.Abort:
        return INTERRUPTED
    except OSError as error:
        _refuse(f"{error}: free space or pass another --output DIR, then run again to resume")
        return FAILED
    return code or 0


def join_parameters(arguments: Sequence[str]) -> list[str]:
    """`-p NAME VALUE` as `-p NAME=VALUE`: typer has no repeatable option of two values."""
    joined: list[str] = []
    left = list(arguments)
    while left:
        first = left.pop(0)
        joined.append(first)
        if first == "-p" and len(left) >= 2 and "=" not in left[0]:
            joined.append(f"{left.pop(0)}={left.pop(0)}")
    return joined


def _refuse(message: str) -> int:
    _tell(message)
    return USAGE


def _tell(message: str) -> None:
    # One line: no wrapping, and an error that a library tells in several lines is joined.
    line = shortened(f"mtlbook: {' '.join(message.split())}", LONGEST_MESSAGE)
    # What was typed may hold bytes that are no text: they must not end in a traceback either.
    line = line.encode(errors="backslashreplace").decode()
    Console(stderr=True).print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _interruptible() -> Iterator[None]:
    """What is begun in here ends in good order on Ctrl-C, and in one line."""
    unwind()
    try:
        yield
    except KeyboardInterrupt:
        _tell("interrupted; the same command begins again")
        raise typer.Exit(INTERRUPTED) from None


def _console(*, stderr: bool = False) -> Console:
    console = Console(stderr=stderr)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 160  # a file has no width: keep a table's rows on one line
    return console


def _book(notebooks: Path | None) -> Book:
    return open_book(notebooks or find_notebooks(Path.cwd()))


@app.command("list")
def list_chapters(notebooks: Notebooks = None) -> None:
    """List the chapters with their parameters."""
    table = Table("§", "Chapter", "Parameters")
    for chapter in _book(notebooks).chapters:
        parameters = ", ".join(f"{name}={value!r}" for name, value in chapter.parameters.items())
        table.add_row(chapter.section, escape(chapter.title), escape(parameters))
    _console().print(table)


@app.command()
def run(
    sections: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SECTIONS",
            help="3.1, or 3 for 3.1 and 3.2, or a notebook's path for it alone; default: all.",
        ),
    ] = None,
    jobs: Jobs = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="N", help="Replicates per experiment.")
    ] = None,
    first_seed: Annotated[str | None, typer.Option(metavar="N", help="The first of them.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:1.")] = None,
    dataset: Annotated[str | None, typer.Option(help="A data set that the chapter knows.")] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("-p", metavar="NAME VALUE", help="Any parameter (mtlbook list). Repeatable."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where all results go; default: build/ in the clone."),
    ] = None,
    notebooks: Notebooks = None,
    update: Annotated[
        bool, typer.Option("--update", help="Also refresh the committed notebooks and figures.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Run chapters that are up to date, too.")
    ] = False,
    scheduler: Scheduler = None,
    cell_timeout: Annotated[
        int, typer.Option(min=1, metavar="SECONDS", help="The longest that a cell may run.")
    ] = 600,
) -> None:
    """Execute chapters, and show their verdicts."""
    book = _book(notebooks)
    chapters = select(book.chapters, sections or [])
    named = {"seeds": seeds, "first_seed": first_seed, "device": device, "dataset": dataset}
    settings = Settings(
        parameters={name: value for name, value in named.items() if value is not None}
        | dict(_pair(text) for text in parameter or []),
        output=(output or (book.root or Path.cwd()) / "build").resolve(),
        cell_timeout=cell_timeout,
        update=update,
        fresh=fresh,
        here=scheduler is None,
    )
    planned = plan(book, chapters, settings)
    backend = _backend(jobs, scheduler)

    # pandas and SciPy behind the claims take seconds to import: a slip above is told at once.
    from mtlbook.book.runner.run import run as execute

    with _interruptible():
        code = execute(
            book, chapters, planned, settings, backend, _console(), _console(stderr=True)
        )
    raise typer.Exit(code)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(
            f"-p needs a name and a value, such as -p seeds 4, not {shown(text)} alone"
        )
    return name, value


@app.command()
def replicate(
    pages: Annotated[
        list[str] | None,
        typer.Argument(metavar="PAGES", help="As for run; default: all that record claims."),
    ] = None,
    jobs: Jobs = None,
    seeds: Annotated[int, typer.Option(metavar="N", help="Replicates per experiment.")] = SEEDS,
    first_seed: Annotated[int, typer.Option(metavar="N", help="The first of them.")] = FIRST_SEED,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where the runs go; default: build/replication/ in the clone."
        ),
    ] = None,
    notebooks: Notebooks = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Run pages whose replication is up to date, too.")
    ] = False,
    scheduler: Scheduler = None,
    cell_timeout: Annotated[
        int, typer.Option(min=1, metavar="SECONDS", help="The longest that a cell may run.")
    ] = 3600,
) -> None:
    """Repeat pages with 64 seeds that nobody has seen, for figures/replication.json.

    A page is skipped while its replication is that of its present code. What other seeds find is
    not the book's: it is recorded in the output's own replication.json.
    """
    book = _book(notebooks)
    settings = Settings(
        parameters={"seeds": str(seeds), "first_seed": str(first_seed)},
        output=(output or (book.root or Path.cwd()) / "build" / "replication").resolve(),
        cell_timeout=cell_timeout,
        update=False,
        fresh=fresh,
        here=scheduler is None,
    )
    planned = plan_replication(book, select(book.chapters, pages or []), settings)
    backend = _backend(jobs, scheduler)
    with _interruptible():
        code = repeat(book, planned, settings, backend, _console(), _console(stderr=True))
    raise typer.Exit(code)


def _backend(jobs: int | None, scheduler: str | None) -> "Backend":
    """Workers on this machine, or those of a scheduler that answers."""
    if scheduler is None:
        return partial(local, jobs or cores())
    check_scheduler(scheduler)
    return partial(cluster, scheduler)


@app.command()
def report(
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Report a run's results; default: the committed ones."),
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Write the counts into README.md.")
    ] = False,
) -> None:
    """Show the book's verdicts, those of the replication, and those of the pages beside them.

    p-values are corrected over the whole ledger (Holm).
    """
    from mtlbook.book import claims, ledger
    from mtlbook.book.runner.display import verdicts
    from mtlbook.book.runner.report import update_readme

    root = find_notebooks(Path.cwd()).parent if update or not output else None
    path = output / "claims.json" if output else Path(root or "") / "figures" / "claims.json"
    records = claims.read(path)
    if not records:
        raise UsageError(f"{path} holds no results yet: mtlbook run makes them")
    known = replication.read(path.with_name(replication.FILE))
    found = ledger.frame(records, known)
    _console().print(verdicts(found))
    if root:
        _warn_of_stale(open_book(root / "notebooks"), known)
    if root and update:
        update_readme(root / "README.md", found)


def _warn_of_stale(book: Book, known: replication.Replication) -> None:
    sections = stale(book, known)
    missing = [one for one in sections if one not in known.pages]
    older = [one for one in sections if one in known.pages]
    if missing:
        _tell(f"not replicated yet: {', '.join(missing)} (mtlbook replicate)")
    if older:
        _tell(f"the replication is older than the code: {', '.join(older)} (mtlbook replicate)")


@app.command("book")
def build_book(
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The site's folder; default: build/site in the clone."),
    ] = None,
    notebooks: Notebooks = None,
) -> None:
    """Build the HTML book from the committed notebooks; nothing is executed."""
    book = _book(notebooks)

    from mtlbook.book.site.build import BuildError, build

    target = output or (book.root or Path.cwd()) / "build" / "site"
    try:
        with _interruptible(), _console(stderr=True).status("building the book"):
            page = build(book, target)
    except BuildError as error:
        typer.echo(error, err=True)
        _tell(f"the book is not built: mend what is named above ({target} is as it was)")
        raise typer.Exit(FAILED) from None
    typer.echo(page)


@app.command()
def study(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAMES", help="Without any: list them.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=2, metavar="N", help="Replicates; default: the study's own.")
    ] = None,
    first_seed: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="The first of them; default: 0.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the records go; default: build/studies.")
    ] = Path("build/studies"),
    update: Annotated[
        bool, typer.Option("--update", help="Refresh the records that the chapters show.")
    ] = False,
) -> None:
    """Run studies on downloaded data, or list them."""
    from mtlbook.book import studies

    if not names:
        _console().print(_studies())
        return
    if update and (seeds is not None or first_seed is not None):
        raise UsageError("--update records a study's own seeds: leave out --seeds and --first-seed")
    for name in names:
        studies.study(name)
    for name in names:
        start = first_seed or 0
        chosen = range(start, start + (seeds or studies.study(name).SEEDS))
        with _interruptible():
            record = studies.run(name, chosen, device)
            path = studies.write(record, studies.RECORDS if update else output)
        _console().print(_means(record.results, title=name))
        typer.echo(path)


def _means(results: "pd.DataFrame", title: str) -> Table:
    """Each value of a study's results averaged over the seeds."""
    keys = [key for key in results.columns if key not in ("seed", "value")]
    table = Table(*map(escape, keys), f"mean of {results['seed'].nunique()} seeds", title=title)
    means = results.pivot_table("value", index=keys, aggfunc="mean", sort=False).reset_index()
    for *cells, mean in means.itertuples(index=False):
        table.add_row(*(escape(str(cell)) for cell in cells), f"{mean:.4g}")
    return table


def _studies() -> Table:
    from mtlbook.book import studies
    from mtlbook.data.registry import available

    table = Table("Study", "§", "Data", "Fetched", "Recorded")
    for name in studies.names():
        one = studies.study(name)
        fetched = "yes" if all(map(available, one.DATA)) else "no"
        recorded = "yes" if (studies.RECORDS / f"{name}.json").is_file() else "no"
        table.add_row(name, one.SECTION, ", ".join(one.DATA), fetched, recorded)
    return table


@data.command("list")
def list_data() -> None:
    """List the data sets that can be downloaded."""
    from mtlbook.data.registry import available, registry

    table = Table("Name", "Data set", "Licence", "Terms", "Fetched")
    table.add_column("MB", justify="right")
    for one in registry().values():
        fetched = "yes" if available(one.name) else "no"
        cells = (one.name, one.title, one.licence, one.terms, fetched, f"{one.bytes / 1e6:.2f}")
        table.add_row(*map(escape, cells))
    _console().print(table)


@data.command("fetch")
def fetch_data(names: Names = None) -> None:
    """Download data sets: what is missing, checked by its SHA-256."""
    from mtlbook.data.registry import fetch

    for name in _known(names):
        with _interruptible():
            typer.echo(f"{name}: {fetch(name)}")


@data.command("verify")
def verify_data(names: Names = None) -> None:
    """Check the SHA-256 of data sets in the cache."""
    from mtlbook.data.registry import verify

    problems = {name: verify(name) for name in _known(names)}
    for name, found in problems.items():
        typer.echo(f"{name}: {' '.join(found) or 'good'}")
    raise typer.Exit(FAILED if any(problems.values()) else 0)


@data.command("path")
def data_path(
    name: Annotated[str | None, typer.Argument(help="Default: the folder of all.")] = None,
) -> None:
    """Print where a data set lies or would lie; MTLBOOK_DATA sets the folder of all."""
    from mtlbook.data.registry import cache_folder, path

    typer.echo(path(name) if name else cache_folder())


def _known(names: Sequence[str] | None) -> list[str]:
    """The given data sets, or all; an unknown name is refused before any is downloaded."""
    from mtlbook.data.registry import data_set, registry

    return [data_set(name).name for name in names or registry()]
