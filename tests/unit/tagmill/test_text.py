"""Names in one spelling, and text on one line."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagmill.text import is_utf8, legible, normalize, trim


@given(st.text())
def test_a_normalized_text_stays_as_it_is(text: str) -> None:
    once = normalize(text)
    assert normalize(once) == once == unicodedata.normalize("NFC", once)
    assert trim(once) == once == once.strip()


@given(st.text())
def test_all_unicode_forms_of_a_text_are_one_name(text: str) -> None:
    assert normalize(unicodedata.normalize("NFD", text)) == normalize(unicodedata.normalize("NFC", text))


@pytest.mark.parametrize("blank", [" ", "\t", "\r\n", "\u00a0", "\u3000", "\ufeff", "\u200b", "\u202a", "\u2060"])
def test_white_space_and_invisible_characters_are_trimmed(blank: str) -> None:
    assert normalize(f"{blank}a{blank}b{blank}{blank}") == f"a{blank}b"


def test_bytes_that_are_not_utf8_are_told_and_shown_as_escapes() -> None:
    assert [is_utf8(text) for text in ("a", "caf\u00e9", "caf\udce9")] == [True, True, False]
    assert legible("caf\udce9\x1b") == r"caf\udce9\x1b"
