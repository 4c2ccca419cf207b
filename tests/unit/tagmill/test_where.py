"""Conditions of --where: what they choose, and what is refused."""

import pytest

from tagmill.errors import InputError
from tagmill.extra import make_extra
from tagmill.where import Where

EXTRA = make_extra(
    {
        "brand": "Nike",
        "price": 12.5,
        "stock": 0,
        "sold": True,
        "code": "007",
        "amount": "5.0",
        "tags": ["a", "b"],
        "none": None,
        "blank": " ",
        "updated": "2026-03-01T10:00:00",
        "note": "a=b",
        "Größe < L": "M",
        "id": 9007199254740993,
    }
)


@pytest.mark.parametrize(
    ("expression", "chosen"),
    [
        ("brand=Nike", True),
        (" brand = Nike ", True),
        ("brand=nike", False),
        ("brand!=Adidas", True),
        ("brand!=Nike", False),
        ("nothing=x", False),
        ("nothing!=x", True),
        ("nothing=", True),
        ("nothing<5", False),
        ("nothing<x", False),
        ("price<13", True),
        ("price<2", False),  # 2 is more than 12.5 as text
        ("price=12.50", True),
        ("price>=12.5", True),
        ("brand>1", False),
        ("stock=0", True),
        ("stock", True),
        ("!stock", False),
        ("sold=true", True),
        ("code=7", False),
        ("code=007", True),
        ("code<8", True),
        ("amount=5", True),
        ('tags=["a","b"]', True),
        ("tags~b", True),
        ("none", False),
        ("!none", True),
        ("!blank", True),
        ("brand", True),
        ("updated>=2026-02-28", True),
        ("updated<2026-02-28", False),
        ("brand~^N", True),
        ("brand~ike$|^Adi", True),
        ("brand~x", False),
        ("note=a=b", True),
        ('"Größe < L"=M', True),
        ("id=9007199254740992", False),
        ("id=9007199254740993", True),
        ("image_key~^shop1/", True),
        ("uri~^https:", False),
    ],
)
def test_a_condition_chooses_entries(expression: str, chosen: bool) -> None:
    assert Where.parse([expression]).matches("shop1/a", "/a.jpg", EXTRA) is chosen


def test_all_of_several_conditions_must_hold() -> None:
    assert Where.parse(["brand=Nike", "price<13"]).matches("a", "/a", EXTRA)
    assert not Where.parse(["brand=Nike", "price<12"]).matches("a", "/a", EXTRA)
    assert Where().matches("a", "/a", None)


def test_the_columns_of_conditions_are_known_without_key_and_uri() -> None:
    assert Where.parse(["a=1", "uri~x", "!image_key", "b"]).columns == {"a", "b"}


@pytest.mark.parametrize("expression", ["", "=x", "!", "!brand=x", '"brand', "price<", "brand~["])
def test_what_is_no_condition_is_refused_by_name(expression: str) -> None:
    with pytest.raises(InputError, match=r"^--where") as caught:
        Where.parse([expression])
    assert repr(expression) in str(caught.value)
