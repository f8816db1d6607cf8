"""Auxiliary tasks: what a network learns beside the task that it is for."""
