import base64
import json
import struct
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
import torch
from matplotlib.figure import Figure

import mtlbook
from mtlbook.book import claims as ledger
from mtlbook.book import page as page_module
from mtlbook.book.claims import Claim
from mtlbook.book.page import Page
from mtlbook.book.parameters import ListOf, Number, OneOf
from mtlbook.book.table import render
from mtlbook.errors import UsageError

PARAMETERS = {
    "seeds": 4,
    "first_seed": 10,
    "device": "cpu",
    "dataset": "relatives",
}
CLAIM = Claim(
    id="3.1-overfitting",
    section="3.1",
    statement="Sharing a layer narrows the gap.",
    source="Baxter 1997",
    method="hard sharing",
    baseline="one network a task",
    metric="gap",
    better="lower",
    smallest=5.0,
    relative=True,
)


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch, tmp_path):
    monkeypatch.setenv("MTLBOOK_OUTPUT", str(tmp_path / "out"))
    claims = {CLAIM.id: CLAIM, "9-other": Claim(**{**vars(CLAIM), "id": "9-other", "section": "9"})}
    monkeypatch.setattr(ledger, "claims", lambda: claims)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def shown(monkeypatch):
    """What was displayed: the pairs of data and metadata."""
    displays = []

    def display(data, *, raw, metadata=None):
        assert raw
        displays.append((data, metadata))

    monkeypatch.setattr(page_module, "display", display)
    return displays


def page(**changes) -> Page:
    return Page("3.1", PARAMETERS | changes, dataset=OneOf("relatives", "digits"))


def test_a_chapter_holds_its_checked_parameters():
    opened = page()
    assert opened.seeds == range(10, 14)
    assert opened.device == torch.device("cpu")
    assert opened.dataset == "relatives"
    assert torch.get_num_threads() == 1


def test_auto_is_a_device_of_this_machine():
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert page(device="auto").device.type == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 1}, "parameter seeds = 1: must be a whole number between 2 and 1000"),
        ({"seeds": "four"}, "parameter seeds = 'four': must be a whole number"),
        ({"seeds": 4.0}, "parameter seeds = 4.0: must be a whole number"),
        ({"seeds": True}, "parameter seeds = True"),
        ({"first_seed": -1}, "parameter first_seed = -1: must be a whole number between 0 and"),
        ({"first_seed": 2**63}, "parameter first_seed = 9223372036854775808: must be a whole"),
        ({"dataset": "mnist"}, "parameter dataset = 'mnist': must be one of relatives, digits"),
        ({"device": "gpu"}, "parameter device = 'gpu': must be auto, cpu, cuda or cuda:N"),
        ({"device": "cuda:99"}, "'cuda:99'"),
    ],
)
def test_an_impossible_parameter_is_refused_with_what_is_possible(changes, message):
    with pytest.raises(UsageError, match=message):
        page(**changes)


def test_stray_global_draws_repeat():
    page()
    first = torch.rand(1), np.random.rand()  # noqa: NPY002
    page()
    assert (torch.rand(1), np.random.rand()) == first  # noqa: NPY002


def test_parameters_are_written_back_in_their_own_types():
    notebook = {**PARAMETERS, "noise": 1, "sizes": (0, 2), "x": "the reader's own"}
    Page("3.1", notebook, noise=Number(0, 1), sizes=ListOf(Number(0, 2)))
    assert notebook == {**PARAMETERS, "noise": 1.0, "sizes": [0.0, 2.0], "x": "the reader's own"}
    assert type(notebook["noise"]) is float


METHOD, BASELINE = [0.9, 1.8, 2.6, 3.6], [1.0, 2.0, 3.0, 4.0]


def test_a_claim_is_measured_shown_and_recorded(tmp_path, capsys):
    page().claim(CLAIM.id, method=METHOD, baseline=BASELINE, data="relatives")
    (record,) = json.loads((tmp_path / "out" / "claims" / "3.1.json").read_text(encoding="utf-8"))
    assert record["effect"] == pytest.approx(100 * 1.1 / 10, rel=1e-5)
    assert record["low"] <= record["effect"] <= record["high"]
    assert (record["p"], record["seeds"], record["verdict"]) == (0.125, 4, "supported")
    assert (record["data"], record["section"]) == ("relatives", "3.1")
    assert capsys.readouterr().out == (
        "Claim 3.1-overfitting: Sharing a layer narrows the gap.\n"
        "  gap of hard sharing against one network a task, on relatives\n"
        "  effect +11.0 [+10.0, +13.0] %; smallest that matters 5 %\n"
        "  p = 0.125 over 4 seeds\n"
        "  verdict: supported\n"
    )


def test_a_claim_takes_arrays_tensors_and_columns():
    opened = page()
    for form in (np.array, torch.tensor, pd.Series):
        opened.claim(CLAIM.id, method=form(METHOD), baseline=form(BASELINE), data="relatives")


def test_claims_of_one_run_lie_side_by_side_and_a_new_run_starts_afresh(tmp_path):
    path = tmp_path / "out" / "claims" / "3.1.json"
    opened = page()
    for data in ("relatives", "digits", "relatives"):
        opened.claim(CLAIM.id, method=METHOD, baseline=BASELINE, data=data)
    assert [one["data"] for one in ledger.read(path)] == ["digits", "relatives"]
    page().claim(CLAIM.id, method=METHOD, baseline=BASELINE, data="digits")
    assert [one["data"] for one in ledger.read(path)] == ["digits"]


@pytest.mark.parametrize("id_", ["3.1-unknown", "9-other"])
def test_a_claim_of_no_or_another_section_is_refused(id_):
    with pytest.raises(UsageError, match=f"section 3.1 has no claim '{id_}'.*: 3.1-overfitting"):
        page().claim(id_, method=METHOD, baseline=BASELINE, data="relatives")


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (METHOD[:3], r"method must hold one value for each of the 4 seeds, not .* \(3,\)"),
        ([METHOD], r"method must .* \(1, 4\)"),
        ([1.0, float("nan"), 1.0, 1.0], r"method is not finite for seeds \[11\]"),
    ],
)
def test_values_that_are_not_one_per_seed_are_refused(method, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        page().claim(CLAIM.id, method=method, baseline=BASELINE, data="relatives")
    assert not (tmp_path / "out").exists()


def drawing() -> Figure:
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([1, 2])
    return figure


def test_a_figure_is_saved_and_shown_with_its_text(tmp_path, shown):
    page().figure(drawing(), "sweep", alt="A line that rises from 1 to 2.")
    saved = (tmp_path / "out" / "figures" / "3_1_sweep.png").read_bytes()
    ((data, metadata),) = shown
    assert base64.b64decode(data["image/png"]) == saved
    assert data["text/plain"] == "A line that rises from 1 to 2."
    assert metadata["image/png"]["alt"] == data["text/plain"]
    pixels = struct.unpack(">II", saved[16:24])
    assert pixels == (300, 150)
    assert (metadata["image/png"]["width"], metadata["image/png"]["height"]) == (192, 96)
    assert b"matplotlib" not in saved


def test_a_figure_has_the_same_bytes_twice(shown):
    opened = page()
    opened.figure(drawing(), "sweep", alt="A line.")
    opened.figure(drawing(), "sweep", alt="A line.")
    assert shown[0] == shown[1]


def test_a_figure_without_text_is_refused(tmp_path):
    with pytest.raises(UsageError, match="'sweep' needs a text"):
        page().figure(drawing(), "sweep", alt=" ")
    assert not (tmp_path / "out").exists()


def test_a_table_is_shown_as_text_and_as_html(shown):
    page().table(pd.DataFrame({"error": [0.5]}), digits=2, caption="Errors.")
    ((data, _),) = shown
    assert (data["text/plain"], data["text/html"]) == render(
        pd.DataFrame({"error": [0.5]}), 2, "Errors."
    )


def test_without_a_chosen_folder_results_go_to_the_repositorys_build(tmp_path, monkeypatch):
    monkeypatch.delenv("MTLBOOK_OUTPUT")
    folder = tmp_path / "book" / "notebooks" / "3_sharing_methods"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    (folder / "3_1_hard_parameter_sharing.ipynb").touch()
    (folder / "3_1_2_finer.ipynb").touch()
    opened = page()
    opened.claim(CLAIM.id, method=METHOD, baseline=BASELINE, data="relatives")
    assert (folder / "build" / "claims" / "3.1.json").is_file()
    (tmp_path / "book" / "pyproject.toml").touch()
    opened.claim(CLAIM.id, method=METHOD, baseline=BASELINE, data="relatives")
    (record,) = ledger.read(tmp_path / "book" / "build" / "claims" / "3.1.json")
    assert record["notebook"] == "notebooks/3_sharing_methods/3_1_hard_parameter_sharing.ipynb"


@pytest.fixture
def executed(tmp_path, monkeypatch):
    """Execute a notebook by papermill in a kernel of this Python, with parameters."""
    monkeypatch.setenv("PYTHONPATH", str(Path(mtlbook.__file__).parents[1]))

    def execute(*cells: str, **parameters):
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "", "language": "python"}},
        )
        notebook.cells[0].metadata["tags"] = ["parameters"]
        nbformat.write(notebook, tmp_path / "in.ipynb")
        return papermill.execute_notebook(
            tmp_path / "in.ipynb", tmp_path / "ran.ipynb", parameters, progress_bar=False
        )

    return execute


PARAMETER_CELL = "seeds = 4  # how many\nfirst_seed = 0\ndevice = 'cpu'\ndataset: str = 'digits'"
OPENING = (
    "from mtlbook.book.page import Page\n"
    "from mtlbook.book.parameters import OneOf\n"
    "page = Page('3.1', globals(), dataset=OneOf('digits'))\n"
    "page.seeds"
)


@pytest.mark.filterwarnings("ignore")  # papermill's own, about the parameter that it can't place
def test_a_mistyped_parameter_is_refused_in_a_real_kernel(executed):
    with pytest.raises(papermill.PapermillExecutionError) as raised:
        executed(PARAMETER_CELL, OPENING, sedes=4)
    assert raised.value.ename == "UsageError"
    assert raised.value.evalue == (
        "unknown parameter sedes; this notebook has: dataset, device, first_seed, seeds"
    )


@pytest.mark.parametrize(
    ("cell", "name", "message"),
    [
        (OPENING.replace("dataset=OneOf('digits')", ""), "UsageError", "parameter seeds = -1"),
        ("from mtlbook.book import exercises\nexercises.get('3.1.q')", "UsageError", "unknown ex"),
        (
            "from mtlbook.training.fit import TrainingDivergedError\n"
            "raise TrainingDivergedError('lower the rate')",
            "TrainingDivergedError",
            "lower the rate",
        ),
    ],
    ids=["impossible parameter", "another module", "another kind"],
)
def test_a_usage_error_shows_its_message_and_nothing_of_the_library(
    cell, name, message, executed, tmp_path
):
    with pytest.raises(papermill.PapermillExecutionError, match=f"{name}: {message}") as raised:
        executed(PARAMETER_CELL.replace("4", "-1"), cell)
    assert (raised.value.ename, raised.value.evalue.startswith(message)) == (name, True)
    ran = nbformat.read(tmp_path / "ran.ipynb", as_version=4)
    ((error,),) = [one.outputs for one in ran.cells if one.cell_type == "code" and one.outputs]
    assert error.traceback == [f"{name}: {error.evalue}"]


def test_a_real_kernel_takes_parameters_and_shows_only_what_can_be_compared(executed):
    ran = executed(
        PARAMETER_CELL,
        OPENING,
        "from matplotlib import pyplot\nfigure, axes = pyplot.subplots()\naxes.plot([1, 2])\n"
        "page.figure(figure, 'line', alt='A line.')",
        "import pandas\npage.table(pandas.DataFrame({'error': [0.5]}))",
        seeds=3,
    )
    _, injected, opening, figure, table = ran.cells
    assert injected.source.startswith("# Parameters\n")
    assert opening.outputs[0].data["text/plain"] == "range(0, 3)"
    (picture,) = figure.outputs  # the inline backend doesn't show it a second time
    assert picture.data["text/plain"] == "A line."
    assert picture.metadata["image/png"]["alt"] == "A line."
    assert base64.b64decode(picture.data["image/png"]).startswith(b"\x89PNG")
    assert table.outputs[0].data["text/plain"] == "error\n0.500"


@pytest.mark.parametrize(
    ("cells", "unknown"),
    [
        (["", "seeds = 4", "# Parameters\nseeds = 2\n"], None),
        (["", "seeds = 4", "# Parameters\nsedes = 2\n"], "sedes"),
        (["", "sedes = 4", "# Parameters\nsedes = 2\n"], "sedes"),  # without a rule
        (["", "seeds = 4"], None),
        (["", "seeds = 4", "sedes = 2", "page = 1"], None),  # the reader's own cell
        # Run again in JupyterLab, with a cell of the reader's in between.
        (
            ["", "seeds = 4", "# Parameters\nseeds = 2\n", "x = 1", "# Parameters\nseeds = 2\n"],
            None,
        ),
        (["", "%time 3", "seeds: int = 4", "# Parameters\na = 1\nb = 2\n"], "a, b"),
    ],
)
def test_injected_parameters_are_compared_with_the_cells_before(cells, unknown, monkeypatch):
    shell = SimpleNamespace(user_ns={"In": cells})
    monkeypatch.setattr(page_module, "get_ipython", lambda: shell)
    if unknown is None:
        page()
    else:
        with pytest.raises(
            UsageError, match=f"unknown parameter {unknown}; this notebook has: dataset, device"
        ):
            page()
