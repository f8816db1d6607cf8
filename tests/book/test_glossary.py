import re

from mtlbook.book.glossary import glossary


def test_each_term_has_its_korean_and_a_meaning() -> None:
    terms = glossary()
    assert len(terms) >= 80
    assert terms["term"].is_unique
    assert all(re.search("[가-힣]", text) for text in terms["Korean"])
    assert all(len(text.split()) >= 4 for text in terms["meaning"])
