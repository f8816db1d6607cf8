"""Studies: what they record, what is refused, and the committed records against the registry."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import cast

import pandas as pd
import pytest

from mtlbook.book import studies
from mtlbook.book.page import Page
from mtlbook.data import registry
from mtlbook.errors import UsageError

RECORDED = sorted(path.stem for path in studies.RECORDS.glob("*.json"))


def results(seeds: Sequence[int], device: str) -> pd.DataFrame:
    rows = [
        {"seed": seed, "method": method, "school": seed % 2, "metric": "loss", "value": seed / 7}
        for seed in seeds
        for method in ("ℓ1", "separate")
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A study of two seeds on a data set that is always at hand."""
    one = SimpleNamespace(SECTION="5.1", DATA=("school",), SEEDS=2, run=results)
    monkeypatch.setattr(studies, "names", lambda: ["tiny"])
    monkeypatch.setitem(sys.modules, "mtlbook.book.studies.tiny", cast(ModuleType, one))
    monkeypatch.setattr(registry, "fetch", lambda name: Path())
    return one


@pytest.mark.usefixtures("tiny")
def test_what_is_written_is_read_again(tmp_path):
    record = studies.run("tiny", range(3, 6))
    path = studies.write(record, tmp_path)
    assert studies.read("tiny", tmp_path) == record
    assert record.seeds == [3, 4, 5]
    expected = results([3, 4, 5], "cpu")
    pd.testing.assert_frame_equal(record.results, expected, rtol=1e-5)
    # A row a line, in six digits: a difference between two records is read line by line.
    assert path.read_text(encoding="utf-8").count('{"seed":') == 6
    assert record.results.value[0] == 0.428571


@pytest.mark.usefixtures("tiny")
def test_provenance_names_data_seeds_and_command():
    text = studies.run("tiny", range(2)).provenance
    digest = registry.data_set("school").files[0].sha256
    for part in (
        "mtlbook study tiny",
        "school/school.mat",
        digest[:8],
        "2 seeds (0 to 1)",
        "torch",
    ):
        assert part in text


@pytest.mark.usefixtures("tiny")
def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no study 'teeny': choose one of tiny"):
        studies.run("teeny", range(2))
    with pytest.raises(UsageError, match="no record yet: run mtlbook study tiny --update"):
        studies.read("tiny", tmp_path)


def test_a_result_that_is_not_finite_is_refused(tiny):
    tiny.run = lambda seeds, device: results(seeds, device).assign(value=float("nan"))
    with pytest.raises(UsageError, match=r"tiny has a result that is not finite: .*'method': 'ℓ1'"):
        studies.run("tiny", range(2))


@pytest.mark.usefixtures("tiny")
def test_a_chapter_shows_the_studies_of_its_own_section(monkeypatch):
    record = studies.run("tiny", range(2))
    monkeypatch.setattr(studies, "read", lambda name: record)
    parameters = {"seeds": 2, "first_seed": 0, "device": "cpu"}
    page = Page("5.1", parameters)
    assert page.study("tiny") is record
    monkeypatch.setattr(studies, "read", lambda name: replace(record, section="4.1"))
    with pytest.raises(UsageError, match="belongs to section"):
        page.study("tiny")


def test_every_study_names_its_section_data_and_seeds():
    for name in studies.names():
        one = studies.study(name)
        assert one.SEEDS >= 2
        assert one.SECTION.replace(".", "").isdigit()
        assert [registry.data_set(needed) for needed in one.DATA]


def test_every_study_is_recorded_and_no_other():
    assert studies.names() == RECORDED


@pytest.mark.parametrize("name", RECORDED)
def test_a_committed_record_is_whole(name):
    record, one = studies.read(name), studies.study(name)
    assert record.study == name
    assert record.section == one.SECTION
    assert record.seeds == list(range(one.SEEDS))
    assert record.files == {
        needed: {file.file: file.sha256 for file in registry.data_set(needed).files}
        for needed in one.DATA
    }
    assert {"seed", "metric", "value"} <= set(record.results)
    assert set(record.results.seed) == set(record.seeds)
    text = (studies.RECORDS / f"{name}.json").read_text(encoding="utf-8")
    assert list(json.loads(text)) == ["study", "section", "seeds", "files", "versions", "rows"]
