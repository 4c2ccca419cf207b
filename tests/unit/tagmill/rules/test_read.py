"""Rule sets are read from TOML files, and a mistake in one is told with its place."""

from pathlib import Path

import pytest

from tagmill.errors import InputError
from tagmill.measuring import Measuring
from tagmill.rules.read import built_in, read_rules

HEAD = 'name = "shop"\n[[rule]]\nid = "big"\ndetail = "too small"\n'


def test_the_built_in_sets_name_their_source_and_date() -> None:
    assert built_in() == ("amazon", "google-merchant", "google-merchant-apparel")
    for name in built_in():
        found = read_rules(name)
        assert found.name == name
        assert found.source
        assert found.date >= "2026"
        assert len({rule.rule for rule in found.rules}) == len(found.rules)


def test_a_file_of_the_same_form_is_read(tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text(HEAD + 'measure = "long_side"\nat_least = 800\n')
    (rule,) = read_rules(str(file)).rules
    assert (rule.rule_set, rule.rule, rule.bound, rule.severity) == ("shop", "big", 800.0, "error")
    assert rule.is_broken_by(799)
    assert not rule.is_broken_by(800)
    assert not rule.is_broken_by(None)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('measure = "long_side"\n', "rule 1 \\(big\\): needs one of at_least and at_most"),
        ('measure = "long_side"\nat_least = "8"\n', "rule 1 \\(big\\): at_least is no number"),
        ('measure = "long_side"\nat_least = nan\n', "rule 1 \\(big\\): at_least is no number"),
        ('measure = "longside"\nat_least = 8\n', "measure 'longside' is not known; choose from: long_side"),
        ('measure = "frame"\nat_most = 0\nlevel = 1\n', "'level' is not known"),
        ('measure = "frame"\nat_most = 0\nproduct = "sku"\n', "goes with the measure product_copies"),
        ('measure = "frame"\nat_most = 0\nseverity = "bad"\n', "severity 'bad' is not known"),
        ("measure = frame\n", "is not TOML: .*line 5"),
        (HEAD.partition("\n")[2] * 0 + 'measure = "frame"\nat_most = 0\n' + HEAD.partition("\n")[2]
         + 'measure = "frame"\nat_most = 0\n', "two rules have the id 'big'"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(tmp_path: Path, body: str, said: str) -> None:
    file = tmp_path / "shop.toml"
    file.write_text(HEAD + body)
    with pytest.raises(InputError, match=said):
        read_rules(str(file))


def test_an_unknown_set_and_an_unknown_measure_are_refused() -> None:
    with pytest.raises(InputError, match="neither a file nor one of amazon"):
        read_rules("ebay")
    with pytest.raises(InputError, match="choose from: pictures, text"):
        Measuring.parse(["pictures,colors"])
    assert Measuring.parse([]) is None
    assert Measuring.parse(["pictures", "text"]) == Measuring(text=True)
