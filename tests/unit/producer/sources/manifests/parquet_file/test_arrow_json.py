"""Further columns made by Arrow are what they are when they are made value by value."""

import json

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.sources.manifests.parquet_file.arrow_json import is_kept, make_objects
from tagmill.extra import make_extra

VALUES = [
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.booleans(),
    st.dates(),
    st.datetimes().filter(lambda moment: moment.microsecond),
    st.lists(st.none() | st.text("a\"'\\", max_size=2), max_size=2),
]


@st.composite
def tables(draw: st.DrawFn) -> dict[str, list[object]]:
    """Draw columns of one length, each of one type and with nulls."""
    rows = draw(st.integers(1, 6))
    kinds = draw(st.lists(st.sampled_from(VALUES), min_size=1, max_size=4))
    return {f"c{at}": draw(st.lists(st.none() | kind, min_size=rows, max_size=rows)) for at, kind in enumerate(kinds)}


@settings(max_examples=150, deadline=None)
@given(table=tables())
def test_arrow_makes_the_objects_that_python_makes(table: dict[str, list[object]]) -> None:
    arrays = {name: pa.array(values) for name, values in table.items()}
    kept = [(name, array) for name, array in arrays.items() if is_kept(array.type)]
    rows = len(next(iter(table.values())))
    expected = [make_extra({name: table[name][row] for name, _ in kept}) for row in range(rows)]
    found = make_objects(kept, rows)
    assert [text and json.loads(text) for text in found] == [text and json.loads(text) for text in expected]
