"""Relatives of multi-task learning, in which tasks are learnt one after another."""
