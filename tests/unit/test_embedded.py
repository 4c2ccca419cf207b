"""Which interrupted run an embedded command goes on with."""

from pathlib import Path

from producer.manifest import Entry
from worker.embedded import NamedBundles, own_queue

BUNDLES = NamedBundles({"a" * 64: Path("a.onnx")})


def test_the_same_entries_find_their_run_and_any_others_do_not() -> None:
    entries = [Entry("one", "/shop/one.jpg"), Entry("two", "/shop/two.jpg")]
    queue = own_queue(entries, 64, BUNDLES)
    assert own_queue(iter(entries), 64, BUNDLES) == queue
    assert own_queue([*entries, Entry("three", "/shop/three.jpg")], 64, BUNDLES) != queue
    assert own_queue([entries[0], Entry("two", "/shop/other.jpg")], 64, BUNDLES) != queue
    assert own_queue(entries, 32, BUNDLES) != queue
    assert own_queue(entries, 64, NamedBundles({"b" * 64: Path("b.onnx")})) != queue
