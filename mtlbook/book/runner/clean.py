"""A notebook as it is committed: the same text whenever and wherever it was executed."""

from copy import deepcopy
from itertools import groupby

import nbformat
from nbformat import NotebookNode
from papermill.execute import ERROR_MARKER_TAG

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def clean(notebook: NotebookNode) -> NotebookNode:
    """The notebook without what depends on the time, the machine or papermill's bookkeeping."""
    notebook = deepcopy(notebook)
    language = dict(notebook.metadata.get("language_info", {}))
    language.pop("version", None)
    notebook.metadata = NotebookNode(kernelspec=KERNEL, language_info=language)
    notebook.cells = [
        _clean_cell(cell)
        for cell in notebook.cells
        if ERROR_MARKER_TAG not in cell.metadata.get("tags", [])
    ]
    return notebook


def text(notebook: NotebookNode) -> str:
    """The notebook as the text of its file: keys sorted, ending in one line break."""
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def _clean_cell(cell: NotebookNode) -> NotebookNode:
    for key in ("papermill", "execution"):
        cell.metadata.pop(key, None)
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
