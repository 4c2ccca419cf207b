"""What people see of a location holds no login, no signature and no token."""

import pytest

from tagmill.locations.redact import shown_uri

AMAZON = (
    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}&X-Amz-Date=20261130T0Z&X-Amz-Expires=60&X-Amz-Signature={}"
)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        (f"https://b.s3.amazonaws.com/1.jpg?{AMAZON.format('AK%2F1', 'ab12')}",
         f"https://b.s3.amazonaws.com/1.jpg?{AMAZON.format('***', '***')}"),
        ("https://s.googleapis.com/b/1.jpg?x-goog-signature=ab&w=2", "https://s.googleapis.com/b/1.jpg?x-goog-signature=***&w=2"),
        ("https://s.googleapis.com/1.jpg?GoogleAccessId=a%40b&Expires=1&Signature=ab%3D", "https://s.googleapis.com/1.jpg?GoogleAccessId=***&Expires=1&Signature=***"),
        ("https://a.blob.core.windows.net/c/1.jpg?sv=2026&se=2027&sr=b&sig=ab%2B", "https://a.blob.core.windows.net/c/1.jpg?sv=2026&se=2027&sr=b&sig=***"),
        ("https://cdn.example/1.jpg?Policy=eyJ&Signature=x&Key-Pair-Id=K2", "https://cdn.example/1.jpg?Policy=***&Signature=***&Key-Pair-Id=***"),
        ("https://cdn.example/1.jpg?v=3&TOKEN=x", "https://cdn.example/1.jpg?v=3&TOKEN=***"),
        ("https://cdn.example/1.jpg?access%5Ftoken=x", "https://cdn.example/1.jpg?access%5Ftoken=***"),
        ("https://cdn.example/1.jpg?t=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "https://cdn.example/1.jpg?t=***"),
        ("https://cdn.example/1.jpg;jsessionid=9#access_token=x", "https://cdn.example/1.jpg;jsessionid=***#access_token=***"),
        ("https://anna:s3cret@cdn.example:8443/1@2x.jpg", "https://***@cdn.example:8443/1@2x.jpg"),
        ("https://anna@cdn.example/1.jpg", "https://***@cdn.example/1.jpg"),
        ("https://anna:s3@cret@cdn.example/1.jpg", "https://***@cdn.example/1.jpg"),
        ("https://anna:s3/cret@cdn.example/1.jpg", "https://***@cdn.example/1.jpg"),
        ("https://anna:s3?cret@cdn.example/1.jpg", "https://***@cdn.example/1.jpg"),
        ("sftp://anna:s3cret@files.example/1.jpg", "sftp://***@files.example/1.jpg"),
    ],
)  # fmt: skip
def test_secrets_are_replaced(uri: str, shown: str) -> None:
    assert shown_uri(uri) == shown


@pytest.mark.parametrize(
    "uri",
    [
        "/shop/token=1/sig=2.jpg",
        "/shop/http://anna:x@y?token=1",
        "https://cdn.example/1.jpg",
        "https://cdn.example:8443/1@2x.jpg?v=3&w=100&sku=a%20b&page=",
        "https://[2001:db8::1]:80/1@2x.jpg",
        "https://cdn.example/?key=shop/1.jpg&design=5&signal=6",
        "s3://bucket/summer 2026/1@2x.jpg",
        "",
    ],
)
def test_a_location_without_secrets_is_shown_as_it_is(uri: str) -> None:
    assert shown_uri(uri) == uri
