"""The book as a site: HTML from the committed notebooks, which are read and never executed."""
