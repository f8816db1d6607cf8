import json

import numpy as np
import pytest

from mtlbook.book import claims as ledger
from mtlbook.book.claims import Claim, effect_text, merge, parse, read, record, table
from mtlbook.errors import UsageError
from mtlbook.statistics import Effect
from tests.ledger_hygiene import FIELDS

CLAIM = """
[[claim]]
id = "3.1-overfitting"
section = "3.1"
statement = "Sharing a layer narrows the gap."
source = "Baxter 1997"
method = "hard sharing"
baseline = "one network a task"
metric = "generalisation gap"
better = "lower"
relative = true
smallest = 5
roles = { "relatives" = "mechanism present", "digits" = "real data" }
"""


def claim(**changes) -> Claim:
    return Claim(
        **{
            "id": "3.1-overfitting",
            "section": "3.1",
            "statement": "Sharing a layer narrows the gap.",
            "source": "Baxter 1997",
            "method": "hard sharing",
            "baseline": "one network a task",
            "metric": "generalisation gap",
            "better": "lower",
            "smallest": 5.0,
            "relative": True,
            "roles": {"relatives": "mechanism present", "digits": "real data"},
        }
        | changes
    )


def result(p=0.001, data="relatives", **changes):
    effect = Effect(estimate=12.0, low=8.0, high=15.0, p=p, seeds=16)
    notebook = "notebooks/3_sharing_methods/3_1_hard_parameter_sharing.ipynb"
    return record(claim(**changes), effect, data, notebook)


@pytest.fixture
def _no_claims(monkeypatch):
    monkeypatch.setattr(ledger, "claims", dict)


def test_the_books_own_claims_are_valid():
    for key, one in ledger.claims().items():
        assert key == one.id
        assert key.startswith(one.section)


def test_a_claim_is_read_with_its_defaults():
    assert parse(CLAIM) == {"3.1-overfitting": claim()}
    assert not claim().higher_is_better
    assert claim().unit == "%"
    assert claim(relative=False).unit == ""
    assert not claim().control


def test_an_empty_file_has_no_claims():
    assert parse("# nothing yet") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CLAIM + CLAIM, "two claims have the id '3.1-overfitting'"),
        (CLAIM.replace('metric = "generalisation gap"', ""), "'3.1-overfitting' .* lacks metric"),
        (CLAIM.replace('id = "3.1-overfitting"', ""), "claim 'number 1' .* lacks id"),
        (CLAIM + 'colour = "red"', "unknown key 'colour'; possible are id, section"),
        (CLAIM.replace("smallest = 5", "smallest = 0"), "smallest must be a number above 0, not 0"),
        (CLAIM.replace("smallest = 5", "smallest = nan"), "smallest must be a number above 0"),
        (CLAIM.replace("smallest = 5", "smallest = true"), "smallest must be a number above 0"),
        (CLAIM.replace('"lower"', '"smaller"'), 'better must be "lower" or "higher"'),
        (CLAIM.replace("relative = true", 'relative = "yes"'), "relative must be true or false"),
        (CLAIM.replace('"Baxter 1997"', '""'), "source must be a text that is not empty"),
        (CLAIM.replace('"3.1"', "3.1"), "section must be a text"),
        (CLAIM.replace('section = "3.1"', 'section = "three"'), "section must be numbers"),
        (
            CLAIM.replace('"real data"', '"fun"'),
            "roles must give each data set one of mechanism pr",
        ),
        (CLAIM.replace('"real data"', '"mechanism off"'), "a control, and nothing else, has the"),
        (CLAIM + 'of = "3.1-a"', "a control, and nothing else, has the role"),
        (
            CLAIM.replace("roles =", 'of = "3.1-a"\nroles = {}\n#'),
            "'3.1-overfitting' is the control of no claim",
        ),
        (CLAIM.replace("[[claim]]", "[[claims]]"), "unknown table 'claims'"),
        ("[[claim]", "not valid TOML"),
    ],
)
def test_a_faulty_ledger_is_refused_with_the_cause(text, message):
    with pytest.raises(UsageError, match=message):
        parse(text)


def test_a_record_has_exactly_the_promised_keys_in_order():
    assert tuple(result()) == FIELDS


def test_a_record_holds_6_significant_digits_and_the_verdict_of_those():
    # Just below the smallest effect by less than the rounding: the file must agree with itself.
    effect = Effect(estimate=4.9999999, low=1.23456789, high=1234567.8, p=1.23456789e-5, seeds=16)
    one = record(claim(), effect, "relatives", "")
    assert (one["effect"], one["low"], one["high"]) == (5.0, 1.23457, 1234570.0)
    assert one["p"] == 1.23457e-05
    assert one["verdict"] == "supported"


def test_a_ledger_survives_writing_and_reading(tmp_path):
    path = tmp_path / "figures" / "claims.json"
    records = [result(), result(data="digits")]
    ledger.write(path, records)
    assert list(json.loads(path.read_text(encoding="utf-8"))) == ["claims"]
    assert read(path) == merge(records)
    ledger.write_section(path, records)
    assert json.loads(path.read_text(encoding="utf-8")) == merge(records)
    assert read(path) == merge(records)


def test_no_file_has_no_records(tmp_path):
    assert read(tmp_path / "claims.json") == []


@pytest.mark.parametrize("content", ["{", "{}", "3", '["a"]', '[{"id": "3.1-a"}]', "\xff"])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "3.1.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError, match=r"3\.1\.json .*delete it and run again"):
        read(path)


def test_records_are_sorted_by_the_number_of_the_section_then_by_id():
    records = [
        result(id="3.10-a", section="3.10"),
        result(id="3.9-a", section="3.9"),
        result(id="3.9-b", section="3.9"),
        result(id="1-z", section="1"),
    ]
    assert [one["id"] for one in merge(reversed(records))] == ["1-z", "3.9-a", "3.9-b", "3.10-a"]


def test_of_two_records_of_the_same_claim_and_data_the_later_one_remains():
    older, newer, other = result(p=0.5), result(p=0.25), result(data="digits")
    assert merge([older, other], [newer]) == merge([newer, other])
    assert len(merge([older], [newer])) == 1


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "claims.json"
    ledger.write(path, [result()])
    before = path.read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        ledger.write(path, [result(p=float("nan"))])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "figures").write_text("")
    with pytest.raises(UsageError, match="choose a folder that can be written"):
        ledger.write(tmp_path / "figures" / "claims.json", [result()])


@pytest.mark.usefixtures("_no_claims")
def test_the_table_corrects_over_the_whole_ledger_and_marks_what_does_not_survive():
    records = [result(id=f"3.1-{i}", p=p) for i, p in enumerate([0.01, 0.04, 0.03])]
    frame = table(records)
    np.testing.assert_allclose(frame["p_holm"], [0.03, 0.06, 0.06])
    assert frame["survives"].tolist() == [True, False, False]
    assert table(records[1:2])["survives"].tolist() == [True]


@pytest.mark.usefixtures("_no_claims")
def test_a_negligible_effect_has_nothing_to_survive():
    negligible = Effect(estimate=0.1, low=-1.0, high=1.0, p=0.9, seeds=16)
    frame = table([record(claim(), negligible, "relatives", "")])
    assert frame["verdict"].tolist() == ["negligible"]
    assert frame["survives"].tolist() == [True]


@pytest.mark.usefixtures("_no_claims")
def test_an_empty_ledger_has_an_empty_table():
    assert len(table([])) == 0


@pytest.mark.parametrize(
    ("effect", "low", "high", "text"),
    [
        (0.0, 0.0, 0.0, "+0.00 nats [+0.00, +0.00]"),
        (0.012345, -0.001, 0.0267, "+0.0123 nats [-0.0010, +0.0267]"),
        (1234.5, 900.4, 1500.0, "+1234 nats [+900, +1500]"),
        (2e-9, -1e-9, 3e-9, "+2.00e-09 nats [-1.00e-09, +3.00e-09]"),
    ],
)
def test_effects_are_written_to_3_digits(effect, low, high, text):
    assert effect_text(effect, low, high, "nats") == text
