"""The runner: every chapter executed by papermill in a process of its own."""
