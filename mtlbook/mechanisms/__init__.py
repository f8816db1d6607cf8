"""Section 4: why multi-task learning works; one file a mechanism: its world and its probe."""
