"""Section 6's synthetic data sets, a file each: its first line names the method whose home it is.

Every generator is `name(seed, *, rows, tasks=…, its dial=…, noise=…) -> SyntheticDataset`: float64,
each draw by `(seed, purpose)`, signals of variance 1, fewer rows the first of more. One value of
its dial takes the mechanism away: that is the negative control.
"""
