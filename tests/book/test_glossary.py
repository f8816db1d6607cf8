import re

from mtlbook.book.glossary import glossary


def test_each_term_has_its_korean_and_a_meaning() -> None:
    terms = glossary()
    assert len(terms) >= 80
    assert terms["term"].is_unique
    assert terms["Korean"].map(lambda text: bool(re.search("[가-힣]", text))).all()
    assert (terms["meaning"].str.split().str.len() >= 4).all()
