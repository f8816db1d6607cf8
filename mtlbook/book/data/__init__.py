"""Data sets of single pages and studies: worlds made for one experiment, readers of one survey."""
