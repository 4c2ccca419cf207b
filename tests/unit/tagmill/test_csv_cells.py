"""Cells of CSV files: harmless in a spreadsheet, and read back unchanged."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tagmill.csv_cells import cell_reader, escape_cell, join_labels, split_labels, unescape_cell
from tagmill.text import normalize

RESULTS = ("image_key", "uri", "status", "error_code", "sha256", "width", "height")
#: characters that begin a formula, that separate cells, and that may stand before a formula
risky = st.text(st.sampled_from("=+-@\uff1d;\t\r\n '\"|\\/,ab\uac00"), max_size=12)
texts = st.one_of(st.text(), risky)
names = texts.map(normalize).filter(bool)


def is_harmless(cell: str) -> bool:
    """Return whether no part of a cell, however it is separated, begins a formula."""
    return not any(
        re.match(r"[\s\"]*[=+\-@\uff0b\uff0d\uff1d\uff20\t\r]", part) for part in re.split(r"[;\t\r\n]", cell)
    )


@given(texts)
@example("'=1")
@example("''=1")
@example(";'=1")
@example("\n\n=1")
@example("a;\t'\n+")
def test_an_escaped_cell_is_harmless_and_is_read_back(text: str) -> None:
    cell = escape_cell(text)
    assert is_harmless(cell)
    assert unescape_cell(cell) == text


@pytest.mark.parametrize(
    "text", ["", "a", "a=1", "'a", "''", "1-2", "https://h/a?b=c&d=@e", "(=1)", "\uac00=1", "it's"]
)
def test_a_cell_that_begins_no_formula_is_unchanged(text: str) -> None:
    assert escape_cell(text) == unescape_cell(text) == text


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(1)", "=cmd|' /C calc'!A0", " =1", '"=1"', "'=1", "\uff1dcmd", "\t=1", "\tcmd"]
)
def test_a_cell_that_begins_a_formula_gets_an_apostrophe(text: str) -> None:
    assert escape_cell(text) == f"'{text}" or text.startswith("\t")
    assert escape_cell(text).startswith("'")


@given(names)
def test_only_the_cells_of_a_file_of_results_are_unescaped(name: str) -> None:
    assert cell_reader(RESULTS)(escape_cell(name)) == name
    assert cell_reader(("image_key", "uri"))(name) == name


@given(st.lists(names, unique=True))
@example(["a\\", "|b", "\\|"])
def test_joined_labels_are_split_again(labels: list[str]) -> None:
    assert split_labels(join_labels(labels)) == tuple(labels)


@given(names)
def test_one_label_is_read_back_whatever_it_holds(label: str) -> None:
    assert split_labels(join_labels([label])) == (label,)


def test_labels_that_look_the_same_are_one() -> None:
    assert split_labels("caf\u00e9| cafe\u0301 |red\u00a0|red|") == ("caf\u00e9", "red")
