"""Wildcards of a source: what they match, and where the prefix ends that keys are relative to."""

import pytest

from producer.sources.stores.pattern import is_pattern, pattern_of
from tagmill.locations.schemes import parse_stored


@pytest.mark.parametrize(
    ("source", "prefix"),
    [
        ("s3://shop", "s3://shop/"),
        ("s3://shop/catalog", "s3://shop/catalog/"),
        ("s3://shop/catalog/", "s3://shop/catalog/"),
        ("s3://shop/**/*.jpg", "s3://shop/"),
        ("s3://shop/a/part-*.csv", "s3://shop/a/"),
        ("s3://shop/a/b*c/d/1.jpg", "s3://shop/a/"),
        ("s3://shop/a/[12]/1.jpg", "s3://shop/a/"),
    ],
)
def test_the_prefix_ends_before_the_first_part_with_a_wildcard(source: str, prefix: str) -> None:
    location = parse_stored(source)
    assert str(pattern_of(location).prefix) == prefix
    assert is_pattern(location) == any(mark in source for mark in "*[")


@pytest.mark.parametrize(
    ("wildcards", "matched", "others"),
    [
        ("*.jpg", ["a.jpg", ".jpg"], ["a.jpeg", "b/a.jpg", "a.jpg/b", "a.JPG"]),
        ("**/*.jpg", ["a.jpg", "b/a.jpg", "b/c/a.jpg"], ["b/a.png"]),
        ("**", ["a.jpg", "b/c/a.jpg"], [""]),
        ("?/**/a.jpg", ["b/a.jpg", "b/c/a.jpg"], ["bc/a.jpg", "a.jpg"]),
        ("*/1.jpg", ["a/1.jpg"], ["1.jpg", "a/b/1.jpg"]),
        ("?.jpg", ["a.jpg", "셔.jpg"], ["ab.jpg", "/.jpg"]),
        ("[ab-d].jpg", ["a.jpg", "c.jpg"], ["e.jpg"]),
        ("[!a].jpg", ["b.jpg"], ["a.jpg", "/.jpg"]),
        ("[*][?].jpg", ["*?.jpg"], ["ab.jpg"]),
        ("[[]a[]].jpg", ["[a].jpg"], ["a.jpg"]),
        ("[^a].jpg", ["^.jpg", "a.jpg"], ["b.jpg"]),
        ("[a.jpg*", ["[a.jpg", "[a.jpgx"], ["a.jpg"]),
        ("a+(b).jpg*", ["a+(b).jpg"], ["aab.jpg"]),
    ],
)
def test_what_wildcards_match(wildcards: str, matched: list[str], others: list[str]) -> None:
    pattern = pattern_of(parse_stored("s3://shop/")._replace(key=wildcards))
    assert [name for name in (*matched, *others) if pattern.matches(name)] == matched
