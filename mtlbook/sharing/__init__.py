"""Section 3 of the overview: how tasks share parameters."""
