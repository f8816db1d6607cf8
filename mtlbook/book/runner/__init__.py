"""The runner: every chapter executed by papermill in a process of its own."""

import sys

# nbformat's validator would compile a grammar of international addresses, for most of a second in
# every worker. No notebook needs it, and where it is missing the validator does without.
sys.modules.setdefault("rfc3987_syntax", None)  # pyright: ignore[reportArgumentType]
