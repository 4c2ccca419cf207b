"""Which entries of a run repeat an earlier one."""

from contextlib import closing

from hypothesis import given
from hypothesis import strategies as st

from tagmill.ledger.repeats.find import RepeatedEntries


@given(st.lists(st.integers(0, 40), max_size=1500), st.integers(1, 700))
def test_entries_are_split_into_first_ones_and_repeats_in_order(numbers: list[int], block: int) -> None:
    uris = [f"/{number}.jpg" for number in numbers]
    first: dict[str, int] = {}
    repeats = [(at, first[uri]) for at, uri in enumerate(uris) if first.setdefault(uri, at) != at]
    with closing(RepeatedEntries()) as found:
        for start in range(0, len(uris), block):
            found.add(uris[start : start + block])
        assert found.find() == len(repeats)
        assert list(found.repeats()) == repeats
        assert list(found.firsts()) == sorted(first.values())
        assert found.entries == len(uris)
