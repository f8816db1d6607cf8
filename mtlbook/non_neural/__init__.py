"""Section 5 of the overview: multi-task learning of linear models, with scikit-learn's API."""
