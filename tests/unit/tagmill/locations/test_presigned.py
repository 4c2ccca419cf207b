"""A presigned URL is known again by what is left of it without its signature."""

import pytest

from tagmill.locations.presigned import without_signature

AMAZON = "X-Amz-Algorithm=A&X-Amz-Credential=B&X-Amz-Date=C&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=D"


@pytest.mark.parametrize(
    ("url", "left"),
    [
        (f"https://b.example/1.jpg?{AMAZON}", "https://b.example/1.jpg"),
        (f"https://b.example/1.jpg?versionId=7&{AMAZON}&x-id=GetObject", "https://b.example/1.jpg?versionId=7&x-id=GetObject"),
        ("https://s.example/1.jpg?x-goog-date=1&x-goog-signature=ab&generation=3", "https://s.example/1.jpg?generation=3"),
        ("https://s.example/1.jpg?GoogleAccessId=a%40b&Expires=1&Signature=ab%3D", "https://s.example/1.jpg"),
        ("https://b.example/1.jpg?AWSAccessKeyId=a&Expires=1&Signature=ab", "https://b.example/1.jpg"),
        ("https://a.example/c/1.jpg?sp=r&st=1&se=2&spr=https&sv=2026&sr=b&sig=ab%2B", "https://a.example/c/1.jpg"),
        ("https://a.example/c/1.jpg?snapshot=5&sv=2026&se=2&sr=b&sig=ab", "https://a.example/c/1.jpg?snapshot=5"),
        ("https://cdn.example/1.jpg?w=300&Policy=eyJ&Signature=x&Key-Pair-Id=K2", "https://cdn.example/1.jpg?w=300"),
        ("https://o.example/1.jpg?x-oss-signature=ab&x-oss-date=1&x-oss-process=image/resize", "https://o.example/1.jpg?x-oss-process=image/resize"),
        ("https://t.example/1.jpg?q-sign-algorithm=sha1&q-ak=a&q-signature=b", "https://t.example/1.jpg"),
    ],
)  # fmt: skip
def test_the_parameters_of_a_signature_are_left_out(url: str, left: str) -> None:
    assert without_signature(url) == left


@pytest.mark.parametrize(
    "url",
    [
        "https://cdn.example/1.jpg",
        "https://cdn.example/1.jpg?token=abc&v=3",
        "https://cdn.example/1.jpg?sig=abc&sp=2",
        "https://cdn.example/1.jpg?signature=red&size=4",
        "https://cdn.example/1.jpg?X-Amz-Date=1&policy=2",
        "s3://shop/what?.jpg",
    ],
)
def test_everything_else_stays(url: str) -> None:
    assert without_signature(url) == url


def test_a_fragment_is_no_part_of_what_is_asked_for() -> None:
    assert without_signature("https://cdn.example/1.jpg?v=3#top") == "https://cdn.example/1.jpg?v=3"
