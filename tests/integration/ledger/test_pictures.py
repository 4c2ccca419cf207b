"""What workers measure on pictures is in SQL, and the views apply the rules when they are read."""

from dataclasses import replace

import pytest
from sqlalchemy import Engine, text
from support.ledger import QUEUE, batches, digest

from tagmill.ledger.batches import leases
from tagmill.ledger.batches.leases import Claim, Lease
from tagmill.ledger.complete import complete
from tagmill.ledger.known_results import unchanged_files
from tagmill.ledger.pictures.measures import measured_images
from tagmill.ledger.pictures.rules import store_rules
from tagmill.ledger.runs.create import create_run
from tagmill.measuring import Measuring
from tagmill.records import BatchResult, Entry, ImageRow, InferenceRow, Outcome, PictureRow, SeenFile
from tagmill.registry.models import Model
from tagmill.rules.read import read_rules
from tagmill.rules.rule import Comparison, Rule, RuleSet, Severity
from tagmill.search.violations import count_measured, count_violations, read_violations

GOOD = PictureRow(
    *("", 5, -7, "background", 1.0, 0.5, 0.9, 100.0, 50.0, 900.0, 1100.0, 30.0, 1.0, 0.9, 0.0, 0.0, 0),
    (("color", "Navy", 0.8), ("pattern", "Plain", 0.9)),
)  # fmt: skip
PICTURES = {
    "shoe-17/front": GOOD,
    "shoe-17/back": replace(GOOD, white_border=0.2, text_boxes=3, text_share=0.1),
    "shoe-18/front": replace(GOOD, phash=6, product_extent=None, attributes=()),
}
QUIET = Measuring(text=True)


def claim_of(engine: Engine, model: Model, measuring: Measuring | None) -> Claim:
    entries = [Entry(key, f"/shop/{key}.jpg") for key in PICTURES]
    run_id = create_run(engine, "test", entries, [model], [], 64, QUEUE, measuring=measuring)
    claimed = leases.claim(engine, run_id, batches(engine, run_id)[0], QUEUE, Lease("me", 60.0, max_attempts=3))
    assert claimed is not None
    return claimed


def finish(engine: Engine, claimed: Claim, model: Model, pictures: dict[str, PictureRow]) -> None:
    shas = {image.image_key: digest(image.image_key) for image in claimed.images}
    outcomes = [Outcome(image.position, sha256=shas[image.image_key]) for image in claimed.images]
    facts = [ImageRow(sha256, 1000, 1200, "JPEG", 2_000_000) for sha256 in shas.values()]
    rows = [InferenceRow(sha256, model.sha256, "CPU", (("red", 0.9),), ()) for sha256 in shas.values()]
    files = [SeenFile(sha256[:32], sha256) for sha256 in shas.values()]
    measured = [replace(row, image_sha256=shas[key]) for key, row in pictures.items()]
    assert complete(engine, claimed, BatchResult(outcomes, facts, rows, files, pictures=measured), "worker")


def test_a_run_that_measures_takes_images_that_were_tagged_without(engine: Engine, model: Model) -> None:
    first = claim_of(engine, model, None)
    assert first.measuring is None
    finish(engine, first, model, {})
    files = [digest(key)[:32] for key in PICTURES]
    assert len(unchanged_files(engine, files, [model.sha256])) == 3
    assert unchanged_files(engine, files, [model.sha256], QUIET) == {}
    second = claim_of(engine, model, Measuring())
    assert second.measuring == Measuring()
    finish(engine, second, model, {key: replace(row, text_share=None) for key, row in PICTURES.items()})
    assert len(unchanged_files(engine, files, [model.sha256], Measuring())) == 3
    shas = [digest(key) for key in PICTURES]
    assert measured_images(engine, shas, Measuring()) == {*shas}
    assert measured_images(engine, shas, QUIET) == set()


def test_measuring_without_text_keeps_the_text_that_was_found(engine: Engine, model: Model) -> None:
    finish(engine, claim_of(engine, model, QUIET), model, PICTURES)
    again = {"shoe-17/back": replace(GOOD, sharpness=1.0, text_share=None, text_boxes=None, attributes=())}
    finish(engine, claim_of(engine, model, Measuring()), model, again)
    query = "SELECT sharpness, text_boxes, text_share FROM catalog_pictures WHERE image_key = 'shoe-17/back'"
    with engine.connect() as connection:
        assert connection.execute(text(query)).one() == (1.0, 3, 0.1)
        values = text("SELECT image_key, attribute, value, score FROM catalog_attributes ORDER BY 1, 2")
        assert connection.execute(values).all() == [
            ("shoe-17/front", "color", "Navy", 0.8),
            ("shoe-17/front", "pattern", "Plain", 0.9),
        ]


def test_rules_are_applied_when_the_view_is_read(engine: Engine, model: Model) -> None:
    finish(engine, claim_of(engine, model, QUIET), model, PICTURES)
    columns = "image_key, rule, severity, measured"
    query = text(f"SELECT {columns} FROM catalog_violations WHERE rule_set = 'amazon' ORDER BY 1, 2")
    with engine.connect() as connection:
        assert connection.execute(query).all() == [
            ("shoe-17/back", "duplicate", "warning", 1),
            ("shoe-17/back", "text", "error", 3),
            ("shoe-17/back", "white-background", "error", 0.2),
            ("shoe-17/front", "duplicate", "warning", 1),
        ]
    own = Rule("amazon", "big", Severity.ERROR, "long_side", Comparison.AT_LEAST, 1500.0, None, "too small")
    store_rules(engine, RuleSet("amazon", "", "", "", (own,)))
    with engine.connect() as connection:
        assert [row.rule for row in connection.execute(query)] == ["big", "big", "big"]


@pytest.mark.parametrize("of_run", [False, True])
def test_a_set_is_applied_without_storing_it(engine: Engine, model: Model, of_run: bool) -> None:
    claimed = claim_of(engine, model, QUIET)
    finish(engine, claimed, model, PICTURES)
    run_id = claimed.run_id if of_run else None
    rules = read_rules("google-merchant").rules
    assert count_measured(engine, run_id) == (3, 3)
    counts = {found.rule.rule: found for found in count_violations(engine, rules, run_id)}
    assert counts["text"].examples == ("shoe-17/back",)
    assert counts["duplicate"].pictures == 2
    assert counts["pixels"].pictures == 0
    found = [(one.image_key, one.rule) for one in read_violations(engine, rules, run_id)]
    assert found == [("shoe-17/back", "duplicate"), ("shoe-17/back", "text"), ("shoe-17/front", "duplicate")]


def test_every_rule_decides_in_python_as_in_sql(engine: Engine, model: Model) -> None:
    finish(engine, claim_of(engine, model, QUIET), model, PICTURES)
    values = {"white_border": 0.2, "text_boxes": 3, "product_extent": 0.9, "sharpness": 30.0, "frame": 0.0}
    rules = [rule for rule in read_rules("amazon").rules if rule.measure in values]
    broken = {one.rule for one in read_violations(engine, rules) if one.image_key == "shoe-17/back"}
    assert broken == {rule.rule for rule in rules if rule.is_broken_by(values[rule.measure])}
