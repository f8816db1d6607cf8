"""A notebook as it is committed: the same text whenever and wherever it was executed."""

from copy import deepcopy
from itertools import groupby

import nbformat
from nbformat import NotebookNode
from papermill.execute import ERROR_MARKER_TAG

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}

# JupyterLab writes what the kernel says of itself into a notebook as it opens it, and marks the
# notebook as changed unless it holds just that: the version, too, so it is that of one machine.
LANGUAGE = {
    "codemirror_mode": {"name": "ipython", "version": 3},
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "nbconvert_exporter": "python",
    "pygments_lexer": "ipython3",
    "version": "3.11.7",
}

OWN = "mtlbook"
"""The key of the notebook's metadata under which a page says something to the book's tests."""


def clean(notebook: NotebookNode) -> NotebookNode:
    """The notebook without what depends on the time, the machine or papermill's bookkeeping."""
    notebook = with_metadata(notebook)
    notebook.cells = [
        _clean_cell(cell)
        for cell in notebook.cells
        if ERROR_MARKER_TAG not in cell.metadata.get("tags", [])
    ]
    return notebook


def with_metadata(notebook: NotebookNode) -> NotebookNode:
    """The notebook with the metadata that JupyterLab would write, so that opening changes nothing.

    What a page says to the book's tests under `mtlbook` stays; cells keep their sources, outputs
    and ids.
    """
    notebook = deepcopy(notebook)
    notebook.nbformat_minor = 5
    own = {OWN: notebook.metadata[OWN]} if OWN in notebook.metadata else {}
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": LANGUAGE} | own)
    for cell in notebook.cells:
        for key in ("papermill", "execution", "jupyter"):
            cell.metadata.pop(key, None)
        if "hide-input" in cell.metadata.get("tags", []):  # a tag folds on the site alone
            cell.metadata["jupyter"] = {"source_hidden": True}
    return notebook


def text(notebook: NotebookNode) -> str:
    """The notebook as the text of its file: keys sorted, ending in one line break."""
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def _clean_cell(cell: NotebookNode) -> NotebookNode:
    tags = cell.metadata.get("tags", [])
    if not tags:
        cell.metadata.pop("tags", None)
    if "injected-parameters" in tags:
        cell.id = "injected-parameters"  # papermill draws a random one
    if cell.cell_type == "code":
        cell.outputs = _merge_streams(cell.outputs)
    return cell


def _merge_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Consecutive streams as one of stdout and one of stderr.

    Where the kernel splits a stream, and how it interleaves the two, depends on timing alone.
    """
    merged: list[NotebookNode] = []
    for is_stream, group in groupby(outputs, lambda one: one.output_type == "stream"):
        if not is_stream:
            merged.extend(group)
            continue
        streams = list(group)
        for name in ("stdout", "stderr"):
            joined = "".join(one.text for one in streams if one.name == name)
            if joined:
                merged.append(nbformat.v4.new_output("stream", name=name, text=joined))
    return merged
