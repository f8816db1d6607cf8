import pandas as pd
import pytest

from mtlbook.book import claims as ledger
from mtlbook.book.claims import parse
from mtlbook.book.ledger import frame
from mtlbook.book.overview import markdown_map, overview
from mtlbook.book.replication import Replication
from mtlbook.book.verdicts import forest_frame, result_table, surprises
from mtlbook.statistics import Effect

CLAIMS = """
[[claim]]
id = "3.1-less-overfitting"
section = "3.1"
statement = "Sharing overfits less."
source = "Ruder"
method = "a"
baseline = "b"
metric = "loss"
better = "lower"
relative = true
smallest = 2.0
roles = { "constructed" = "mechanism present", "digits" = "real data" }

[[claim]]
id = "3.1-less-overfitting-control"
section = "3.1"
statement = "Control: it is the common features."
source = "Ruder"
of = "3.1-less-overfitting"
method = "a"
baseline = "b"
metric = "loss"
better = "lower"
relative = true
smallest = 2.0
roles = { "strangers" = "mechanism off" }
"""
CONTROL = "3.1-less-overfitting-control"


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch):
    """Supported on constructed data, harmful on real data, a control that failed."""
    stated = parse(CLAIMS)
    monkeypatch.setattr(ledger, "claims", lambda: stated)
    monkeypatch.setattr("mtlbook.book.verdicts.claims", lambda: stated)
    main, control = stated.values()
    measured = [
        (main, "constructed", Effect(5.0, 4.0, 6.0, 0.001, 16)),
        (main, "digits", Effect(-5.0, -6.0, -4.0, 0.5, 16)),
        (control, "strangers", Effect(0.0, -1.0, 1.0, 0.9, 16)),
    ]
    return frame(
        [ledger.record(claim, effect, data, "") for claim, data, effect in measured], Replication()
    )


def test_a_claim_and_its_control_share_a_label(found: pd.DataFrame) -> None:
    rows = forest_frame(found)
    assert rows["label"].unique().tolist() == ["less overfitting"]
    assert set(rows["role"]) == {"mechanism present", "mechanism off", "real data"}
    assert rows["estimate"].tolist() == found["effect"].tolist()


def test_the_table_marks_what_does_not_survive(found: pd.DataFrame) -> None:
    table = result_table(found).set_index("data")
    assert table["verdict"].to_dict() == {
        "constructed": "supported",
        "digits": "harmful †",
        "strangers": "failed",
    }
    assert table.loc["constructed", "effect"] == "+5.00 % [+4.00, +6.00]"


def test_surprises_are_what_misses(found: pd.DataFrame) -> None:
    real, control = surprises(found)
    assert real.startswith("**§3.1, holds on constructed data, harmful on digits** (-5.00 %")
    assert control.startswith("**§3.1, a control that failed**")
    (none,) = surprises(found.head(1))
    assert none.startswith("Nothing")


def test_the_map_has_a_page_or_says_that_it_is_to_come(found: pd.DataFrame) -> None:
    sections = overview(found).set_index("section")
    assert sections.loc["3.1", "verdict"] == "constructed: supported; real: harmful"
    lines = {line.split(" | ")[0]: line for line in markdown_map(found).splitlines()}
    assert "](3_sharing_methods/3_1_hard_parameter_sharing.ipynb)" in lines["| 3.1"]
    assert "*(to come)*" in lines["| 5.2"]
