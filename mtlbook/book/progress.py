"""A progress bar where somebody looks at it, and silence where output is stored."""

import os
import sys

from tqdm import tqdm


def progress(total: int, label: str) -> tqdm:
    """A bar on a terminal or in JupyterLab that is gone when the work is done.

    papermill and nbval store whatever a cell prints, so their kernels must print nothing:
    only a Jupyter server names the session that a kernel belongs to.
    """
    watched = sys.stderr.isatty() or "JPY_SESSION_NAME" in os.environ
    return tqdm(total=total, desc=label, leave=False, disable=not watched, dynamic_ncols=True)
