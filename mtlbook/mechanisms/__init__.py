"""Section 4, why multi-task learning works: each mechanism's synthetic data and its probes."""
