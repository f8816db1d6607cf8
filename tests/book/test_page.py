import base64
import json
import re
import struct
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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
from mtlbook.book import replication, studies
from mtlbook.book.claims import Claim
from mtlbook.book.diagram import Diagram
from mtlbook.book.page import Page
from mtlbook.book.parameters import ListOf, Number, OneOf
from mtlbook.book.replication import Replication
from mtlbook.book.table import render
from mtlbook.errors import UsageError
from mtlbook.statistics import Effect

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
    quote="Hard parameter sharing greatly reduces the risk of overfitting.",
    roles={"relatives": "mechanism present", "digits": "real data"},
    relative=True,
)
CONTROL = replace(
    CLAIM, id="3.1-control", of=CLAIM.id, roles={"strangers": "mechanism off"}, quote=""
)


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch, tmp_path):
    monkeypatch.setenv("MTLBOOK_OUTPUT", str(tmp_path / "out"))
    other = replace(CLAIM, id="9-other", section="9")
    claims = {claim.id: claim for claim in (CLAIM, CONTROL, other)}
    monkeypatch.setattr(ledger, "claims", lambda: claims)
    monkeypatch.setattr(replication, "read", Replication)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def shown(monkeypatch):
    """What was displayed, by MIME type."""
    displays = []

    def display(data, *, raw):
        assert raw
        displays.append(data)

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


def eight(values):
    return [value + 0.01 * (seed % 3) for seed, value in enumerate(2 * values)]


def test_a_claim_is_measured_shown_and_recorded(tmp_path, shown):
    found = page(seeds=8).claim(
        CLAIM.id, method=eight(METHOD), baseline=eight(BASELINE), data="relatives"
    )
    (record,) = json.loads((tmp_path / "out" / "claims" / "3.1.json").read_text(encoding="utf-8"))
    assert record["effect"] == pytest.approx(100 * 2.2 / 20.07, rel=1e-3)
    assert record["low"] <= record["effect"] <= record["high"]
    assert (record["seeds"], record["verdict"]) == (8, "supported")
    assert (record["data"], record["role"]) == ("relatives", "mechanism present")
    assert found.record == record
    assert str(found) == "+11.0 % [+9.5, +12.4]"
    assert found.choose(supported="It helps.", otherwise="It doesn't.") == "It helps."
    (card,) = shown
    text = card["text/plain"].splitlines()
    assert text[0] == CLAIM.statement
    assert "Hard sharing against one network a task, by gap; relatives" in text[1]
    assert re.fullmatch(r"  this page, 8 seeds  ·*┊·+δ·+├─+●─+┤·*", text[2])
    assert text[3].strip() == "supported: +11.0 % [+9.5, +12.4], p = 0.00781"
    assert "large enough to matter (δ = 5 % is" in text[4]
    assert '<img src="data:image/svg+xml;base64,' in card["text/html"]
    assert "<b>supported</b>" in card["text/html"]


def test_few_seeds_have_an_interval_and_no_verdict(shown):
    found = page().claim(CLAIM.id, method=METHOD, baseline=BASELINE, data="relatives")
    assert found.verdict == "too few seeds"
    assert "a verdict needs at least 8 seeds" in shown[0]["text/plain"]
    assert found.choose(too_few_seeds="More.", otherwise="") == "More."


def test_a_result_refuses_a_sentence_for_an_unknown_verdict():
    found = page().claim(CLAIM.id, method=METHOD, baseline=BASELINE, data="relatives")
    with pytest.raises(UsageError, match="'helpful' is no verdict: there are failed, harmful"):
        found.choose(otherwise="", helpful="It helps.")


def test_a_control_is_what_the_effect_loses_with_the_mechanism_off(tmp_path, shown):
    opened = page(seeds=8)
    on = opened.claim(CLAIM.id, method=eight(METHOD), baseline=eight(BASELINE), data="relatives")
    found = opened.control(
        CONTROL.id, on=on, method=eight(BASELINE), baseline=eight(BASELINE), data="strangers"
    )
    assert found.effect == on.effect  # with the mechanism off there is none
    assert (found.verdict, found.record["role"]) == ("passed", "mechanism off")
    assert "With the mechanism off: +0.00 % [+0.00, +0.00]." in shown[1]["text/plain"]
    recorded = ledger.read(tmp_path / "out" / "claims" / "3.1.json")
    assert [one["id"] for one in recorded] == [CONTROL.id, CLAIM.id]


def test_a_control_and_its_claim_are_not_mistaken_for_each_other():
    opened = page()
    values: dict[str, Any] = {"method": METHOD, "baseline": BASELINE}
    with pytest.raises(UsageError, match=r"control of '3.1-overfitting': measure it by"):
        opened.claim(CONTROL.id, **values, data="strangers")
    on = opened.claim(CLAIM.id, **values, data="relatives")
    with pytest.raises(UsageError, match=r"'3.1-overfitting' as a control .*: it is none"):
        opened.control(CLAIM.id, on=on, **values, data="relatives")


def test_data_without_a_role_are_refused():
    with pytest.raises(UsageError, match="no role on 'mnist'; it knows: relatives, digits"):
        page().claim(CLAIM.id, method=METHOD, baseline=BASELINE, data="mnist")


def test_a_study_has_its_own_seeds(shown):
    study = studies.Record("digits", "3.1", list(range(8)), {}, {}, [])
    found = page().claim(
        CLAIM.id, method=eight(METHOD), baseline=eight(BASELINE), data="digits", study=study
    )
    assert found.record["seeds"] == 8
    assert "recorded study, 8 seeds" in shown[0]["text/plain"]


@pytest.fixture
def _replicated(monkeypatch):
    """A replication in which the claim is slight on one of its data sets."""
    fresh = ledger.record(CLAIM, Effect(3.0, 1.0, 6.0, 0.01, 64), "relatives", "")
    found = Replication().with_page("3.1", "", [fresh])
    monkeypatch.setattr(replication, "read", lambda: found)


@pytest.mark.usefixtures("_replicated")
def test_a_card_shows_the_replication_and_that_it_disagrees(shown):
    page(seeds=8).claim(CLAIM.id, method=eight(METHOD), baseline=eight(BASELINE), data="relatives")
    text = shown[0]["text/plain"]
    assert "replication, 64 fresh seeds" in text
    assert "slight: +3.00 % [+1.00, +6.00]" in text
    assert "supported here, slight in the replication" in text


@pytest.mark.usefixtures("_replicated")
def test_the_answer_is_that_of_the_replication(shown):
    opened = page()
    opened.answer(
        "Sharing: {3.1-overfitting|relatives}, {3.1-overfitting|relatives|verdict}.",
        opened.by(CLAIM.id, "relatives", slight="A little.", otherwise="?"),
        "On digits {3.1-overfitting|digits}.",
        opened.by(CLAIM.id, "digits", slight="A little.", otherwise="Who knows."),
    )
    assert shown == [
        {
            "text/plain": (
                text := "**The answer so far.** Sharing: +3.00 % [+1.00, +6.00], slight. A little. "
                "On digits (not replicated yet). Who knows."
            ),
            "text/markdown": f"> {text}",
        }
    ]


@pytest.mark.parametrize("reference", ["3.1-none|relatives", "3.1-overfitting|mnist"])
def test_an_answer_about_nothing_is_refused(reference):
    with pytest.raises(UsageError, match=r"unknown claim|no role on"):
        page().answer(f"It is {{{reference}}}.")


def test_a_finding_is_markdown(shown):
    page().finding("Sharing *helps*.", "It costs nothing.")
    assert shown == [dict.fromkeys(shown[0], "Sharing *helps*.\n\nIt costs nothing.")]
    assert set(shown[0]) == {"text/plain", "text/markdown"}


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


def test_a_figure_is_saved_and_shown_with_number_caption_and_text(tmp_path, shown):
    opened = page()
    opened.figure(drawing(), "first", caption="One.", alt="A line.")
    opened.figure(drawing(), "sweep", caption="It <rises>.", alt='A "line" from 1 to 2.')
    saved = (tmp_path / "out" / "figures" / "3_1_sweep.png").read_bytes()
    html = shown[1]["text/html"]
    assert f'src="data:image/png;base64,{base64.b64encode(saved).decode()}"' in html
    assert '<figure id="figure-3-1-2">' in html
    assert 'alt="A &quot;line&quot; from 1 to 2." width="192" height="96"' in html
    assert "<b>Figure 3.1.2.</b> It &lt;rises&gt;.</figcaption>" in html
    assert shown[1]["text/plain"] == 'Figure 3.1.2. It <rises>.\n[A "line" from 1 to 2.]'
    assert struct.unpack(">II", saved[16:24]) == (300, 150)
    assert b"matplotlib" not in saved


def test_the_picture_of_the_model_is_a_figure(tmp_path, shown):
    picture = Diagram()
    picture.box("x", "inputs", at=(0, 0), kind="data")
    page().model(picture, caption="A box.", alt="One box.")
    assert (tmp_path / "out" / "figures" / "3_1_model.png").is_file()
    assert shown[0]["text/plain"].startswith("Figure 3.1.1. A box.")


def test_a_figure_has_the_same_bytes_twice(shown):
    opened = page()
    opened.figure(drawing(), "sweep", caption="One.", alt="A line.")
    opened.figure(drawing(), "sweep", caption="One.", alt="A line.")
    assert shown[0] == shown[1]


@pytest.mark.parametrize(("alt", "caption", "missing"), [(" ", "One.", "alt"), ("A.", "", "capt")])
def test_a_figure_without_text_is_refused(alt, caption, missing, tmp_path):
    with pytest.raises(UsageError, match=f"'sweep' needs its {missing}"):
        page().figure(drawing(), "sweep", caption=caption, alt=alt)
    assert not (tmp_path / "out").exists()


def test_a_table_is_shown_as_text_and_as_html(shown):
    page().table(pd.DataFrame({"error": [0.5]}), digits=2, caption="Errors.")
    (data,) = shown
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
        "page.figure(figure, 'line', caption='One.', alt='A line.')",
        "import pandas\npage.table(pandas.DataFrame({'error': [0.5]}))",
        seeds=3,
    )
    _, injected, opening, figure, table = ran.cells
    assert injected.source.startswith("# Parameters\n")
    assert opening.outputs[0].data["text/plain"] == "range(0, 3)"
    (picture,) = figure.outputs  # the inline backend doesn't show it a second time
    assert picture.data["text/plain"] == "Figure 3.1.1. One.\n[A line.]"
    assert 'alt="A line."' in picture.data["text/html"]
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
