"""The book's terms in English and Korean, each with a line that says what it is.

Many read the overview by Korean notes, and find their words here.
"""

import tomllib
from importlib import resources

import pandas as pd


def glossary() -> pd.DataFrame:
    """The terms in alphabetical order: term, Korean, meaning, section of the overview."""
    text = resources.files("mtlbook.book").joinpath("glossary.toml").read_text(encoding="utf-8")
    terms = sorted(tomllib.loads(text)["terms"], key=lambda term: term[0].lower())
    return pd.DataFrame(terms, columns=["term", "Korean", "meaning", "section"])
