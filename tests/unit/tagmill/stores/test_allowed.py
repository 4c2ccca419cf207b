"""A prefix of a store allows what is below it, part by part of its path, and nothing else."""

import pytest

from tagmill.locations.schemes import parse_stored
from tagmill.stores.allowed import AllowedLocations, parse_prefixes


@pytest.mark.parametrize(
    ("prefix", "uri", "allowed"),
    [
        ("s3://shop/", "s3://shop/1.jpg", True),
        ("s3://shop", "s3://shop/2026/1.jpg", True),
        ("S3://shop/", "s3://shop/1.jpg", True),
        ("s3://shop/2026/", "s3://shop/2026/07/1.jpg", True),
        ("s3://shop/2026", "s3://shop/2026/1.jpg", True),
        ("s3://shop/2026/1.jpg", "s3://shop/2026/1.jpg", True),
        ("sftp://Files.example/in/", "sftp://files.example/in/1.jpg", True),
        ("s3://shop/2026", "s3://shop/2026-old/1.jpg", False),
        ("s3://shop/2026/", "s3://shop/202/1.jpg", False),
        ("s3://shop/2026/", "s3://shop/1.jpg", False),
        ("s3://shop/a b/", "s3://shop/a%20b/1.jpg", False),
        ("s3://shop/", "s3://shop-private/1.jpg", False),
        ("s3://shop/", "s3://Shop/1.jpg", False),
        ("s3://shop/", "gs://shop/1.jpg", False),
        ("sftp://files.example/in/", "sftp://files.example:2222/in/1.jpg", False),
    ],
)
def test_a_prefix_allows_what_is_below_it(prefix: str, uri: str, allowed: bool) -> None:
    assert AllowedLocations([prefix]).allows(parse_stored(uri)) == allowed


def test_nothing_is_allowed_without_a_prefix() -> None:
    assert not AllowedLocations([]).allows(parse_stored("s3://shop/1.jpg"))


def test_prefixes_are_separated_by_commas() -> None:
    assert parse_prefixes(" s3://shop/ ,gs://other/2026/,") == ("s3://shop/", "gs://other/2026/")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/srv/catalog", "begins with none of az://, ftp://"),
        ("https://shop.example/", "begins with none of"),
        ("s3://", "a s3:// prefix that names no bucket"),
        ("s3://*/", "names no bucket"),
        ("s3://shop/a/../b/", "holds a part `.` or `..`"),
        ("s3://shop//b/", "holds an empty part"),
        ("sftp://anna:s3cret@host/", "holds a login"),
    ],
)
def test_a_prefix_that_is_none_is_refused_without_its_secrets(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="prefix") as refused:
        parse_prefixes(text)
    assert message in str(refused.value)
    assert "s3cret" not in str(refused.value)
