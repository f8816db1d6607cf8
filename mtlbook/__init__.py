"""mtlbook: the executable companion to Ruder's overview of multi-task learning (2017)."""

__version__ = "0.1.0"
