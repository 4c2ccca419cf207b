"""Image keys that come twice, in one source or in two."""

from pathlib import Path

from support.sources import error_of, make_files

from producer.sources.seen_keys import SeenKeys


def test_the_same_key_in_two_sources_is_an_error_that_names_both(tmp_path: Path) -> None:
    make_files(tmp_path, "old/x.jpg", "new/x.jpg")
    (tmp_path / "shop.csv").write_text("image_key,uri\ny.jpg,/y.jpg\nx.jpg,/x.jpg\n")
    old, new, shop = tmp_path / "old", tmp_path / "new", tmp_path / "shop.csv"
    assert error_of(old, new) == f"{new}: image_key 'x.jpg' is already in {old}"
    assert error_of(old, shop) == f"{shop}:3: image_key 'x.jpg' is already in {old}"
    assert error_of(shop, old) == f"{old}: image_key 'x.jpg' is already in {shop}:3"


def test_keys_that_share_a_bucket_are_distinguished_and_found() -> None:
    seen = SeenKeys(["s"])
    seen._buckets = [bytearray()] * 2**16  # all keys share one bucket
    assert all(seen.first_place(f"key-{number}", 0, number) is None for number in range(1, 500))
    assert [seen.first_place(f"key-{number}", 0, 999) for number in (1, 250, 499)] == ["s:1", "s:250", "s:499"]
