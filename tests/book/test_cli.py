"""The command line on tiny books: usage, results, failures, interruption and kill."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import psutil
import pytest
import torch

from mtlbook.book import commands, studies
from mtlbook.book.runner import budget, cluster
from mtlbook.data import registry
from mtlbook.data.registry import DataSet, RemoteFile
from tests import tiny_book
from tests.tiny_book import PARAMETERS, Cli, chapter, claims, files

clone = tiny_book.clone
mtlbook = tiny_book.mtlbook


def test_list_shows_every_chapter_with_its_parameters(clone: Path, mtlbook: Cli) -> None:
    chapter(clone / "notebooks", "3.10")
    chapter(clone / "notebooks", "3.9", parameters='seeds = 16\nwidths = [16, 32]\nkind = "l2"')
    assert mtlbook("list") == 0
    assert mtlbook.out.index("Title of 3.9") < mtlbook.out.index("Title of 3.10")
    assert "seeds=16, widths=[16, 32], kind='l2'" in mtlbook.out


USAGE = {
    "unknown section": (["run", "9"], ["'9'", "3.1, 3.2"]),
    "part of a number": (["run", "3."], ["'3.'", "3.1, 3.2"]),
    "a name that no chapter has": (["run", "-p", "sedes", "4"], ["'sedes'", "seeds, first_seed"]),
    "a name that one lacks": (["run", "-p", "rate", "0.5"], ["section 3.2", "'rate'"]),
    "a value of another type": (
        ["run", "--seeds", "many"],
        ["parameter seeds = 'many': must be a whole number between 2 and 1000"],
    ),
    "a number where a switch is": (["run", "3.1", "-p", "flag", "1"], ["flag", "true or false"]),
    "an impossible number": (["run", "--seeds", "0"], ["seeds = 0", "between 2 and 1000"]),
    "an impossible number by -p": (
        ["run", "-p", "first_seed", "-1"],
        ["first_seed = -1", "between 0 and 2147483647"],
    ),
    "a seed of 64 bits": (
        ["run", "--first-seed", str(2**63)],
        ["first_seed = 9223372036854775808"],
    ),
    "what a rule excludes": (
        ["run", "3.1", "-p", "rate", "7"],
        ["parameter rate = 7: must be a number between 0 and 1"],
    ),
    "an absurd number": (["run", "--seeds", "1234567890" * 500], ["seeds = '1234567890123"]),
    "an absurd text": (["run", "3.1", "-p", "rate", "-" * 100_000], ["rate = '-----"]),
    "absurd brackets": (["run", "--seeds", "[" * 900 + "]" * 900], ["seeds = '[[[["]),
    "an absurd name": (["run", "-p", "x" * 9_000, "1"], ["no parameter 'xxx"]),
    "an absurd section": (["run", "3" * 9_000], ["no section '333"]),
    "bytes that are no text": (["run", "--seeds", "\udcff"], ["seeds = '\\udcff'"]),
    "no worker": (["run", "--jobs", "0"], ["--jobs"]),
    "unknown device": (["run", "--device", "gpu"], ["'gpu'", "auto, cpu, cuda"]),
    "unknown device by -p": (["run", "-p", "device", "tpu"], ["'tpu'", "auto, cpu, cuda"]),
    "no such GPU": (["run", "--device", "cuda:99"], ["cuda:99", "machine"]),
    "output below a file": (
        ["run", "--output", "pyproject.toml/out"],
        ["cannot write", "--output"],
    ),
    "update with a parameter": (["run", "--update", "--seeds", "2"], ["--update", "seeds"]),
    "unknown study": (["study", "teeny"], ["'teeny'", "choose one of"]),
    "a study without a seed to compare": (["study", "school_linear", "--seeds", "1"], ["--seeds"]),
    "study update with other seeds": (
        ["study", "school_linear", "--update", "--seeds", "3"],
        ["--update", "--seeds"],
    ),
    "-p without a value": (["run", "-p", "seeds"], ["-p", "value"]),
    "unknown option": (["run", "--sections", "3"], ["--sections"]),
    "unknown command": (["walk"], ["walk"]),
    "notebooks that are not there": (["run", "--notebooks", "nowhere"], ["nowhere", "folder"]),
    "no scheduler": (["run", "--scheduler", "tcp://127.0.0.1:9"], ["tcp://127.0.0.1:9", "Dask"]),
    "no results to report": (["report"], ["claims.json", "mtlbook run"]),
    "unknown data set": (["data", "fetch", "nonsense"], ["'nonsense'", "school"]),
}


@pytest.mark.parametrize("case", USAGE)
def test_wrong_usage_is_one_line_and_writes_nothing(
    case: str, clone: Path, mtlbook: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    rules = tiny_book.opening("3.1", "rate=Number(0, 1)")
    parameters = f"{PARAMETERS}rate = 0.5\nflag = False"
    chapter(clone / "notebooks", "3.1", rules, parameters=parameters)
    chapter(clone / "notebooks", "3.2")
    before = files(clone)
    arguments, words = USAGE[case]
    assert mtlbook(*arguments) == 2
    assert mtlbook.err.startswith("mtlbook: ")
    assert mtlbook.err.count("\n") == 1
    assert len(mtlbook.err) <= 301
    for word in words:
        assert word in mtlbook.err
    assert files(clone) == before
    assert {path.name for path in clone.iterdir() if path.is_dir()} == {"notebooks"}


def test_cuda_without_a_gpu_is_refused(
    clone: Path, mtlbook: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    chapter(clone / "notebooks", "3.1")
    assert mtlbook("run", "--device", "cuda") == 2
    assert "needs a GPU" in mtlbook.err
    assert "'cpu'" in mtlbook.err
    assert not (clone / "build").exists()


def test_outside_a_clone_run_says_where_the_notebooks_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mtlbook: Cli
) -> None:
    monkeypatch.chdir(tmp_path)
    assert mtlbook("run") == 2
    assert "clone the repository" in mtlbook.err
    assert "--notebooks DIR" in mtlbook.err


def test_parameters_are_joined_as_pairs() -> None:
    given = ["run", "3.1", "-p", "rate", "-0.5", "-p", "name=x", "-p", "seeds", "4", "--update"]
    assert commands.join_parameters(given) == [
        *["run", "3.1", "-p", "rate=-0.5", "-p", "name=x", "-p", "seeds=4", "--update"]
    ]


def test_run_executes_the_selected_chapters_and_resumes(clone: Path, mtlbook: Cli) -> None:
    chapter(clone / "notebooks", "2")
    chapter(
        clone / "notebooks",
        "3.1",
        "print(seeds, first_seed, dataset, rate)",
        parameters=f"{PARAMETERS}rate = 0.5",
    )
    committed = files(clone)
    changed = ["--seeds", "2", "--first-seed", "5", "--dataset", "other", "-p", "rate", "-1"]
    assert mtlbook("run", "3", *changed) == 0
    assert "3.1 Title of 3.1: started" in mtlbook.out
    assert "c3.1" in mtlbook.out
    assert "1 [0.5, 1.5]" in mtlbook.out
    assert "supported" in mtlbook.out
    assert str(clone / "build" / "figures") in mtlbook.out
    assert files(clone) - committed == {
        "build/notebooks/3_part/3_1_title.ipynb",
        "build/figures/3_1_effect.png",
        "build/claims/3.1.json",
        "build/claims.json",
        "build/runs/3.1.json",
    }
    executed = nbformat.read(clone / "build/notebooks/3_part/3_1_title.ipynb", as_version=4)
    assert executed.cells[3].outputs[0].text == "2 5 other -1.0\n"
    [claim] = claims(clone / "build/claims.json")
    assert claim["seeds"] == 2
    assert claim["notebook"] == "notebooks/3_part/3_1_title.ipynb"
    record = json.loads((clone / "build/runs/3.1.json").read_text())
    assert record["status"] == "succeeded"
    assert record["parameters"] == {"seeds": 2, "first_seed": 5, "dataset": "other", "rate": -1.0}

    first = (clone / "build/runs/3.1.json").stat().st_mtime_ns
    assert mtlbook("run", "3.1", *changed) == 0  # the same again: nothing is executed
    assert "up to date" in mtlbook.out
    assert "supported" in mtlbook.out
    assert (clone / "build/runs/3.1.json").stat().st_mtime_ns == first


FAILURES = {
    "3.1": ("raise ValueError('no such thing')", "code cell 2: ValueError: no such thing"),
    "3.2": ("import os\nos._exit(3)", "code cell 2: the kernel ended by itself (exit status 3)"),
    "3.3": ("while True:\n    pass", "code cell 2: the cell ran longer than 1 s"),
    "3.4": ("import sys\nsys.exit(0)", "code cell 2: SystemExit"),
}


def test_failing_chapters_do_not_stop_the_others(clone: Path, mtlbook: Cli) -> None:
    for section, (source, _) in FAILURES.items():
        chapter(clone / "notebooks", section, source)
    chapter(clone / "notebooks", "3.5")
    before = files(clone)
    assert mtlbook("run", "--cell-timeout", "1", "--jobs", "2") == 1
    for section, (source, message) in FAILURES.items():
        assert f"{section} Title of {section} failed in {message}" in mtlbook.err
        assert f"    | {source.splitlines()[0]}\n" in mtlbook.err
    failed = {f"build/failed/{section.replace('.', '_')}_title.ipynb" for section in FAILURES}
    assert files(clone) - before - failed == {
        "build/notebooks/3_part/3_5_title.ipynb",
        "build/figures/3_5_effect.png",
        "build/claims/3.5.json",
        "build/claims.json",
        "build/runs/3.5.json",
    }
    for name in failed:
        assert (clone / name).read_text().count('"output_type": "error"') == 1

    chapter(clone / "notebooks", "3.1")  # mended: its failed notebook goes
    assert mtlbook("run", "3.1") == 0
    assert not (clone / "build/failed/3_1_title.ipynb").exists()


@pytest.fixture
def interruptible(
    clone: Path,
) -> Iterator[tuple[Path, subprocess.Popen[str], list[psutil.Process]]]:
    """A run whose first chapter is done while its second one works in a cell."""
    chapter(clone / "notebooks", "3.1")
    # It holds the interpreter: the kernel's own look for its parent would never come about.
    slow = "import pathlib\nif not pathlib.Path('resumed').exists():\n    _ = 3 ** 10**9"
    chapter(clone / "notebooks", "3.2", slow)
    process = subprocess.Popen(
        [sys.executable, "-m", "mtlbook.book.cli", "run", "--jobs", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A runner of tests may itself run in the background, where Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    processes: list[psutil.Process] = []
    try:
        assert process.stdout is not None
        said = ""
        while "3.1 Title of 3.1: done" not in said or "3.2 Title of 3.2: started" not in said:
            line = process.stdout.readline()
            assert line, process.communicate()
            said += line
        processes = psutil.Process(process.pid).children(recursive=True)
        assert any("ipykernel_launcher" in " ".join(one.cmdline()) for one in processes)
        yield clone, process, processes
    finally:
        for one in (*processes, process):
            try:
                one.kill()
            except psutil.NoSuchProcess:
                continue
        process.communicate()


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_an_interrupted_or_killed_run_leaves_nothing_and_resumes(
    interruptible: tuple[Path, subprocess.Popen[str], list[psutil.Process]],
    mtlbook: Cli,
    sent: signal.Signals,
    code: int,
) -> None:
    clone, process, processes = interruptible
    workspaces = [
        Path(one.cmdline()[-1])
        for one in processes
        if "mtlbook.book.runner.worker" in one.cmdline()
    ]
    assert workspaces
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    if sent == signal.SIGINT:
        assert err.count("\n") == 1
        assert "1 finished chapter is kept" in err
        assert "resumes" in err
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert not alive
    assert not any(path.exists() for path in workspaces)
    made = {name for name in files(clone) if name.startswith("build/")}
    assert made - {"build/claims.json"} == {
        "build/notebooks/3_part/3_1_title.ipynb",
        "build/figures/3_1_effect.png",
        "build/claims/3.1.json",
        "build/runs/3.1.json",
    }

    (clone / "notebooks/3_part/resumed").touch()
    assert mtlbook("run") == 0
    assert "3.1 Title of 3.1: up to date" in mtlbook.out
    assert "3.2 Title of 3.2: done" in mtlbook.out
    assert [one["id"] for one in claims(clone / "build/claims.json")] == ["c3.1", "c3.2"]


def test_report_corrects_and_marks_and_updates_the_readme(clone: Path, mtlbook: Cli) -> None:
    record = {
        "id": "a", "section": "3.1", "statement": "strong", "effect": 1.0, "low": 0.5,
        "high": 1.5, "p": 0.001, "smallest": 0.1, "seeds": 16, "verdict": "supported",
        "data": "digits", "notebook": "notebooks/3_part/3_1_title.ipynb", "role": "real data",
    }  # fmt: skip
    weak = record | {"id": "b", "statement": "weak", "p": 0.03, "verdict": "harmful"}
    other = record | {"id": "c", "statement": "none", "p": 0.6, "verdict": "undecided"}
    chapter(clone / "notebooks", "3.1")
    (clone / "figures").mkdir()
    ledger = clone / "figures" / "claims.json"
    ledger.write_text(json.dumps({"claims": [record, weak, other]}))
    assert mtlbook("report") == 0
    rows = {row.split()[3]: row for row in mtlbook.out.splitlines() if "3.1" in row}
    assert "0.003" in rows["strong"]  # 3 × 0.001
    assert "†" not in rows["strong"]
    assert "0.06" in rows["weak"]  # 2 × 0.03
    assert "harmful †" in rows["weak"]
    assert "†" not in rows["none"]

    (clone / "README.md").write_text("before\n<!-- claims:begin -->old<!-- claims:end -->\nafter\n")
    assert mtlbook("report", "--update") == 0
    readme = (clone / "README.md").read_text()
    assert readme.startswith("before\n")
    assert readme.endswith("\nafter\n")
    assert "old" not in readme
    assert "| harmful | 1 |" in readme

    run = clone / "elsewhere"
    run.mkdir()
    (run / "claims.json").write_text(json.dumps({"claims": [weak]}))
    assert mtlbook("report", "--output", "elsewhere") == 0
    assert "strong" not in mtlbook.out
    assert "†" not in mtlbook.out  # alone in its ledger, nothing is corrected


def test_data_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mtlbook: Cli) -> None:
    monkeypatch.setenv("MTLBOOK_DATA", str(tmp_path))
    content = b"1,2\n"
    remote = RemoteFile("a.csv", "http://127.0.0.1:9/a.csv", sha256(content).hexdigest(), 4)
    tiny = DataSet("tiny", "A tiny set", (remote,), "MIT", "open", "", "nowhere")
    monkeypatch.setattr(registry, "registry", lambda: {"tiny": tiny})

    assert mtlbook("data", "path") == 0
    assert mtlbook.out == f"{tmp_path}\n"
    assert mtlbook("data", "path", "tiny") == 0
    assert mtlbook.out == f"{tmp_path / 'tiny'}\n"
    assert mtlbook("data", "list") == 0
    assert all(word in mtlbook.out for word in ("tiny", "A tiny set", "MIT", "open", "no"))
    assert mtlbook("data", "verify") == 1
    assert "a.csv" in mtlbook.out
    assert mtlbook("data", "fetch", "tiny") == 2  # nothing answers at that address
    assert mtlbook.err.count("\n") == 1
    assert "a.csv" in mtlbook.err

    (tmp_path / "tiny").mkdir(exist_ok=True)
    (tmp_path / "tiny" / "a.csv").write_bytes(content)
    assert mtlbook("data", "verify", "tiny") == 0
    assert mtlbook.out == "tiny: good\n"
    assert mtlbook("data", "fetch") == 0
    assert mtlbook.out == f"tiny: {tmp_path / 'tiny'}\n"
    assert mtlbook("data", "list") == 0
    assert "yes" in mtlbook.out


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mtlbook.book.cli", "--help"],
        capture_output=True, text=True, check=True,
        env=os.environ | {"COLUMNS": "100"},
    )  # fmt: skip
    assert all(command in done.stdout for command in ("list", "run", "report", "data"))


REFUSED = """
import sys
from mtlbook.book.cli import main
code = main({arguments})
heavy = {{"torch", "pandas", "scipy", "numpy", "matplotlib", "nbformat", "distributed"}}
print(code, *sorted(heavy & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("arguments", "code"), [(["run", "--seeds", "0"], 2), (["list"], 0), (["run", "9"], 2)]
)
def test_refusals_and_lists_need_nothing_that_takes_long_to_import(
    arguments: list[str], code: int, clone: Path
) -> None:
    chapter(clone / "notebooks", "3.1", tiny_book.opening("3.1", "dataset=OneOf('tiny')"))
    script = REFUSED.format(arguments=arguments)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == str(code)


@pytest.mark.parametrize("delay", [0.05, 0.15, 0.3, 0.6, 1.2])
def test_an_interruption_while_modules_are_imported_is_one_line(delay: float, clone: Path) -> None:
    chapter(clone / "notebooks", "3.1", "import time; time.sleep(60)")
    # As soon as the command's own code has begun: Python's own start cannot be answered for.
    script = "print(flush=True)\nimport mtlbook.book.cli\nmtlbook.book.cli.leave_at_once()\n"
    script += "print(flush=True)\nraise SystemExit(mtlbook.book.cli.main(['run', '--jobs', '1']))"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == process.stdout.readline() == "\n"
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.count("\n") == 1
    assert err.lower().startswith(("mtlbook: interrupted", "interrupted"))


def test_without_the_extra_the_command_says_how_to_get_it() -> None:
    script = "import sys\nsys.modules['typer'] = None\nfrom mtlbook.book.cli import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stderr.count("\n") == 1
    assert "needs the extra 'book' (typer is missing)" in done.stderr


LONG = "import time\nend = time.process_time() + {seconds}\nwhile time.process_time() < end: pass"


def test_the_longest_runs_first_and_what_is_over_budget_is_marked(
    clone: Path, mtlbook: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for section, seconds in {"3.1": 0, "3.2": 3, "3.3": 0}.items():
        chapter(clone / "notebooks", section, LONG.format(seconds=seconds))
    monkeypatch.setattr(budget, "SECONDS", 3)

    def order() -> list[str]:
        lines = mtlbook.out.splitlines()
        return [line.split()[0] for line in lines if line.endswith(": started")]

    assert mtlbook("run", "3.1", "3.2", "--jobs", "1") == 0
    assert order() == ["3.1", "3.2"]  # as in the paper: nothing is known of them
    assert "Over a page's budget: 3.2 takes " in mtlbook.out
    assert " s of one core (at most 3 s)" in mtlbook.out
    assert mtlbook.out.count(" ! ") == 1
    record = json.loads((clone / "build/runs/3.2.json").read_text())
    assert record["processor_seconds"] >= 3
    assert mtlbook("run", "--fresh", "--jobs", "1") == 0
    assert order() == ["3.3", "3.2", "3.1"]  # the unknown one, then the longest
    assert mtlbook("run", "3.2", "--seeds", "3") == 0  # a reader may ask for more
    assert "budget" not in mtlbook.out


def test_study_runs_and_records(clone: Path, mtlbook: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(seeds: Sequence[int], device: str) -> pd.DataFrame:
        rows = [{"seed": s, "method": "ridge", "metric": device, "value": s / 4} for s in seeds]
        return pd.DataFrame(rows)

    one = SimpleNamespace(SECTION="5.1", DATA=("school",), SEEDS=3, run=run)
    monkeypatch.setattr(studies, "names", lambda: ["tiny"])
    monkeypatch.setattr(studies, "study", lambda name: one)
    monkeypatch.setattr(studies, "RECORDS", clone / "records")
    monkeypatch.setattr(registry, "fetch", lambda name: Path())
    assert mtlbook("study") == 0
    assert all(part in mtlbook.out for part in ("tiny", "5.1", "school", "no"))
    assert mtlbook("study", "tiny", "--seeds", "2", "--first-seed", "4", "--device", "cpu") == 0
    assert all(part in mtlbook.out for part in ("ridge", "cpu", "mean of 2 seeds", "1.125"))
    assert studies.read("tiny", clone / "build" / "studies").seeds == [4, 5]
    assert not (clone / "records").exists()
    assert mtlbook("study", "tiny", "--update") == 0
    assert studies.read("tiny", clone / "records").seeds == [0, 1, 2]
