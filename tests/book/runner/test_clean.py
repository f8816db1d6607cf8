import nbformat
from ipykernel.ipkernel import IPythonKernel
from jupyter_client.kernelspec import KernelSpecManager
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mtlbook.book.runner.clean import KERNEL, LANGUAGE, clean, text, with_metadata


def executed(*outputs: NotebookNode) -> NotebookNode:
    """A notebook as papermill leaves it."""
    papermill = {"start_time": "2026-01-01T00:00:00", "duration": 1.5, "status": "completed"}
    cells = [
        new_markdown_cell("boom", metadata={"tags": ["papermill-error-cell-tag"]}),
        new_markdown_cell("# Title", metadata={"tags": [], "papermill": papermill}),
        new_code_cell("seeds = 4", metadata={"tags": ["parameters"], "papermill": papermill}),
        new_code_cell("seeds = 5", metadata={"tags": ["injected-parameters"]}),
        new_code_cell(
            "print(1)",
            execution_count=3,
            outputs=list(outputs),
            metadata={"execution": {"iopub.status.busy": "2026"}, "papermill": papermill},
        ),
    ]
    metadata = {
        "kernelspec": {"name": "conda-mine", "display_name": "mine", "language": "python"},
        "language_info": {"name": "python", "version": "3.11.7", "file_extension": ".py"},
        "papermill": {"input_path": "books/notebook.ipynb"},
        "widgets": {"state": {}},
        "mtlbook": {"over_budget": {"words": "two methods"}},
    }
    return new_notebook(cells=cells, metadata=metadata)


def test_what_depends_on_time_or_machine_goes_and_the_rest_stays() -> None:
    notebook = clean(executed())
    assert notebook.metadata == {
        "kernelspec": {
            "display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3",
        },
        "language_info": LANGUAGE,
        "mtlbook": {"over_budget": {"words": "two methods"}},
    }  # fmt: skip
    assert [cell.source for cell in notebook.cells] == [
        "# Title", "seeds = 4", "seeds = 5", "print(1)",
    ]  # fmt: skip
    assert [cell.metadata for cell in notebook.cells] == [
        {}, {"tags": ["parameters"]}, {"tags": ["injected-parameters"]}, {},
    ]  # fmt: skip
    assert notebook.cells[3].execution_count == 3


def test_cleaning_twice_changes_nothing_and_the_file_is_valid() -> None:
    once = clean(executed(new_output("stream", text="1")))
    assert text(clean(once)) == text(once)
    nbformat.validate(nbformat.reads(text(once), as_version=4))
    assert text(once).endswith("}\n")


def test_the_metadata_are_what_the_kernel_says_of_itself() -> None:
    """JupyterLab marks a notebook as changed where it holds anything else."""
    said = IPythonKernel.language_info
    assert {**said, "version": ""} == {**LANGUAGE, "version": ""}
    assert (
        KernelSpecManager(kernel_dirs=[]).get_kernel_spec("python3").display_name
        == (KERNEL["display_name"])
    )


def test_metadata_alone_can_be_written() -> None:
    before = executed(_stream("stdout", "a"), _stream("stdout", "b"))
    before.nbformat_minor = 4
    after = with_metadata(before)
    assert (after.nbformat_minor, after.metadata) == (5, clean(before).metadata)
    assert [cell.metadata.keys() & {"execution", "papermill"} for cell in after.cells] == [
        set()
    ] * 5
    for old, new in zip(before.cells, after.cells, strict=True):
        assert (old.id, old.source, old.get("outputs")) == (new.id, new.source, new.get("outputs"))


def test_the_injected_cell_has_the_same_id_in_every_run() -> None:
    first, second = clean(executed()), clean(executed())
    assert first.cells[2].id == second.cells[2].id


def _stream(name: str, said: str) -> NotebookNode:
    return new_output("stream", name=name, text=said)


def test_streams_do_not_depend_on_how_the_kernel_split_them() -> None:
    figure = new_output("display_data", {"text/plain": "figure"})
    split = clean(
        executed(
            _stream("stdout", "a"), _stream("stderr", "x"), _stream("stdout", "b"),
            figure, _stream("stderr", "y"), _stream("stdout", "c"),
        )
    )  # fmt: skip
    whole = clean(
        executed(
            _stream("stderr", "x"), _stream("stdout", "ab"), figure,
            _stream("stdout", "c"), _stream("stderr", "y"),
        )
    )  # fmt: skip
    outputs = split.cells[-1].outputs
    assert outputs == whole.cells[-1].outputs
    assert [one.get("text", "figure") for one in outputs] == ["ab", "x", "figure", "c", "y"]


def test_a_cell_that_folds_on_the_site_folds_in_jupyterlab() -> None:
    folded = new_code_cell("import torch", metadata={"tags": ["hide-input"]})
    shown = new_code_cell("1", metadata={"jupyter": {"source_hidden": True}})
    first, second = clean(new_notebook(cells=[folded, shown])).cells
    assert first.metadata["jupyter"] == {"source_hidden": True}
    assert "jupyter" not in second.metadata
