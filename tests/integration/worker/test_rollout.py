"""Shadows, canaries, promotions and rollbacks: what workers run, and what the catalog and results show meanwhile."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from support.bundles import write_classifier, write_fussy_classifier
from support.image_fixtures import write_folder, write_image
from support.shop import Shop

from producer.output.selection.query import ResultQuery
from producer.output.selection.result_set import select_results
from tagmill.ledger.batches import leases
from tagmill.ledger.catalog import rebuild
from tagmill.records import Entry
from tagmill.registry.models import Model, resolve
from tagmill.registry.rollout import trials
from tagmill.registry.rollout.production import promote, rollback
from tagmill.registry.rollout.running import RolloutKind
from tagmill.registry.rollout.share import point_of
from worker.pipeline import known
from worker.sources.fetcher import Fetcher

IMAGES = 40
SHOWN = "SELECT image_key, version FROM catalog_labels WHERE model = 'colors' AND rank = 1 ORDER BY image_key"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have workers look for rollouts at each claim, and remember files however recently they changed."""
    monkeypatch.setattr(leases, "ROLLOUT_SECONDS", -1.0)
    monkeypatch.setattr(known, "RACY_SECONDS", -1.0)


@pytest.fixture
def second(shop: Shop, tmp_path: Path) -> Model:
    """The second version of `colors`, which gives other labels. The first is in production."""
    promote(shop.engine, "colors@1")
    return shop.register(write_classifier(tmp_path / "second.onnx", sharpness=-20.0))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the files that are read, in order."""
    read: list[str] = []
    fetch = Fetcher.fetch
    monkeypatch.setattr(
        Fetcher, "fetch", lambda self, uri, terms: read.append(Path(uri).name) or fetch(self, uri, terms)
    )
    return read


def begin(shop: Shop, kind: RolloutKind, share: float, product: str | None = None) -> set[str]:
    """Try the second version; return the keys of the folder in its share."""
    trials.begin(shop.engine, kind, "colors@2", share, product)
    return {path.name for path in shop.folder.iterdir() if point_of("colors", path.name) < share}


def versions(shop: Shop) -> dict[str, int]:
    """Return the version that the catalog shows for each key; every reader must show the same."""
    shown = shop.rows(SHOWN)
    labels = dict(shown)
    assert len(labels) == len(shown), "a label came twice"
    assert dict(shop.rows("SELECT image_key, version FROM catalog_changes")) == labels
    results = select_results(shop.engine, ResultQuery())
    assert {one.image_key: found.version for one in results for found in one.models.values()} == labels
    return labels


def of_run(shop: Shop, run: int) -> dict[str, int]:
    """Return the version that the results of a run name for each key."""
    found = {}
    for one in select_results(shop.engine, ResultQuery(runs=(run,))):
        assert list(one.labels) == ["colors"]
        (model,) = one.models.values()
        found[one.image_key] = model.version
    return found


def test_a_shadow_tags_its_share_too_and_shows_nothing(shop: Shop, second: Model, reads: list[str]) -> None:
    write_folder(shop.folder, IMAGES)
    shop.tag()
    assert len(reads) == IMAGES
    share = begin(shop, RolloutKind.SHADOW, 0.3)
    assert 4 <= len(share) <= 20
    reads.clear()
    again = shop.tag()  # over unchanged files: those of the share are read for the shadow alone
    assert (again.tagged, again.inferences) == (IMAGES, len(share))
    assert sorted(reads) == sorted(share)
    assert shop.rows(f"SELECT count(*) FROM result WHERE model_id = {second.id}") == [(len(share),)]
    assert set(versions(shop).values()) == {1}
    assert set(of_run(shop, again.run).values()) == {1}
    assert shop.tag().inferences == 0
    assert len(reads) == len(share)


def test_a_canary_is_shown_for_its_share_until_it_is_stopped(shop: Shop, second: Model) -> None:
    write_folder(shop.folder, IMAGES)
    before = shop.tag()
    share = begin(shop, RolloutKind.CANARY, 0.5)
    during = shop.tag()
    assert during.inferences == len(share)
    expected = {key: 2 if key in share else 1 for key in versions(shop)}
    assert versions(shop) == expected
    assert of_run(shop, during.run) == expected
    assert set(of_run(shop, before.run).values()) == {1}
    table = shop.rows("SELECT * FROM catalog_entry ORDER BY image_key")
    rebuild(shop.engine)
    assert shop.rows("SELECT * FROM catalog_entry ORDER BY image_key") == table
    smaller = begin(shop, RolloutKind.CANARY, 0.2)
    assert smaller < share
    assert versions(shop) == {key: 2 if key in smaller else 1 for key in expected}  # at once
    trials.stop(shop.engine, RolloutKind.CANARY, "colors")
    assert set(versions(shop).values()) == {1}
    assert of_run(shop, during.run) == expected  # as it was
    after = shop.tag()
    assert (after.inferences, set(versions(shop).values())) == (0, {1})


def test_a_promotion_and_a_rollback_change_what_is_shown_at_once(shop: Shop, second: Model) -> None:
    write_folder(shop.folder, IMAGES)
    shop.tag()
    share = begin(shop, RolloutKind.SHADOW, 0.5)
    shop.tag()
    labels = "SELECT image_key, label, score FROM catalog_labels ORDER BY image_key, rank"
    former = shop.rows(labels)
    with shop.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE catalog_entry SET changed_at = 1")
        connection.exec_driver_sql("UPDATE shown_instead SET since = 1")
    promote(shop.engine, "colors@2")
    assert versions(shop) == {key: 2 if key in share else 1 for key in versions(shop)}
    changed = "SELECT image_key FROM catalog_changes WHERE changed_at > 1"
    assert {key for (key,) in shop.rows(changed)} == share
    assert {one.image_key for one in select_results(shop.engine, ResultQuery(since="1970-01-01T00:00:02Z"))} == share
    assert shop.rows("SELECT count(*) FROM rollout") == [(0,)]
    assert rollback(shop.engine, "colors").now == "colors@1"
    assert shop.rows(labels) == former
    assert {key for (key,) in shop.rows(changed)} == share
    shop.model = second
    promote(shop.engine, "colors@2")
    assert shop.tag().inferences == IMAGES - len(share)
    assert set(versions(shop).values()) == {2}
    rollback(shop.engine, "colors")
    assert shop.rows(labels) == former


def test_images_of_a_product_are_in_a_share_together(shop: Shop, second: Model) -> None:
    entries = []
    for number in range(IMAGES):
        path = write_image(shop.folder / f"{number}.png", "red", size=(20 + number, 20))
        extra = f'{{"sku":{number // 4}}}' if number % 8 < 7 else None
        entries.append(Entry(f"key {number}", str(path), extra))
    begin(shop, RolloutKind.CANARY, 0.5, "sku")
    shop.tag(entries)
    for key, version in versions(shop).items():
        number = int(key.split()[1])
        product = str(number // 4) if number % 8 < 7 else key
        assert version == (2 if point_of("colors", product) < 0.5 else 1)


@pytest.mark.parametrize("kind", RolloutKind)
@pytest.mark.parametrize("fault", ["missing", "fussy"])
def test_a_version_that_fails_costs_no_image_anything(
    shop: Shop, tmp_path: Path, kind: RolloutKind, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    promote(shop.engine, "colors@1")
    second = shop.register(write_fussy_classifier(tmp_path / "second.onnx"), "colors")
    if fault == "missing":
        (tmp_path / "models" / f"{second.sha256}.onnx").unlink()
    write_folder(shop.folder, IMAGES - 1)
    Image.new("RGB", (20, 20), (77, 0, 0)).save(shop.folder / "bad.png")
    shop.tag()
    begin(shop, kind, 1.0)
    with caplog.at_level(logging.ERROR):
        runs = [shop.tag() for _ in range(2)]
    assert [(run.tagged, run.failures) for run in runs] == [(IMAGES, {})] * 2
    told = [record for record in caplog.records if getattr(record, "action", "") == f"{kind.value}_failed"]
    assert len(told) == 1
    assert getattr(told[0], "model", "") == "colors@2"
    good = 0 if fault == "missing" else IMAGES - 1
    assert shop.rows(f"SELECT count(*) FROM result WHERE model_id = {second.id}") == [(good,)]
    shown = list(versions(shop).values())
    assert shown.count(2) == (good if kind is RolloutKind.CANARY else 0)
    assert of_run(shop, runs[1].run) == versions(shop)


def test_a_run_that_names_a_version_follows_no_rollout(shop: Shop, second: Model) -> None:
    write_folder(shop.folder, 8)
    begin(shop, RolloutKind.CANARY, 1.0)
    shop.named_alone = False
    assert shop.tag().inferences == 8
    assert set(versions(shop).values()) == {1}
    assert resolve(shop.engine, "colors").version == 1
