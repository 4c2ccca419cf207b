"""What is a path, and what is a URL of which scheme, for producers and workers alike."""

import pytest

from tagmill.locations.schemes import FETCHED, is_local, parse_stored, scheme_of, url_scheme


@pytest.mark.parametrize(
    ("location", "local", "first", "url"),
    [
        ("/shop/1.jpg", True, None, None),
        ("/shop/http://1.jpg", True, None, None),
        ("shop/1.jpg", False, None, None),
        ("https://shop.example/1.jpg", False, "https", "https"),
        ("HTTP://shop.example/1.jpg", False, "http", "http"),
        ("s3://shop/1.jpg", False, "s3", "s3"),
        ("svn+ssh://shop/1.jpg", False, "svn+ssh", "svn+ssh"),
        ("data:image/png;base64,AA==", False, "data", "data"),
        ("DATA:,", False, "data", "data"),
        # A relative path may hold a colon.
        ("shoes: red.jpg", False, "shoes", None),
        ("C:/shop/1.jpg", False, "c", None),
        ("my shoes: red.jpg", False, None, None),
        ("shoes/a://b.jpg", False, None, None),
        ("1a://b.jpg", False, None, None),
        ("://b.jpg", False, None, None),
        ("", False, None, None),
        # Longer than any registered scheme.
        (f"{'a' * 32}://b.jpg", False, "a" * 32, None),
        (f"{'a' * 31}://b.jpg", False, "a" * 31, "a" * 31),
    ],
)
def test_the_scheme_of_a_location(location: str, local: bool, first: str | None, url: str | None) -> None:
    assert is_local(location) == local
    assert scheme_of(location) == first
    assert url_scheme(location) == url


def test_workers_fetch_http_and_https() -> None:
    assert {"http", "https"} == FETCHED


@pytest.mark.parametrize(
    ("uri", "root", "key", "segments"),
    [
        ("s3://Shop-1/summer 2026/1@2x.jpg", "Shop-1", "summer 2026/1@2x.jpg", ("summer 2026", "1@2x.jpg")),
        ("S3://shop/a%20b?c#d.jpg", "shop", "a%20b?c#d.jpg", ("a%20b?c#d.jpg",)),
        ("gs://shop", "shop", "", ()),
        ("az://$web/a/", "$web", "a/", ("a",)),
        ("sftp://Files.Example:2222/in/1.jpg", "files.example:2222", "in/1.jpg", ("in", "1.jpg")),
        ("sftp://[2001:db8::1]:22/1.jpg", "[2001:db8::1]:22", "1.jpg", ("1.jpg",)),
        ("hf://datasets/Org/name@main/1.jpg", "datasets", "Org/name@main/1.jpg", ("Org", "name@main", "1.jpg")),
    ],
)
def test_the_parts_of_a_stored_location(uri: str, root: str, key: str, segments: tuple[str, ...]) -> None:
    found = parse_stored(uri)
    assert (found.root, found.key, found.segments) == (root, key, segments)
