"""A version is tried, promoted and rolled back while two workers go on with a run: no batch fails."""

import time
from collections import Counter

from sqlalchemy import text
from support.bundles import write_classifier
from support.image_fixtures import write_folder
from support.installation import Site
from support.processes import Worker, wait_until

from producer.output.selection.query import ResultQuery
from producer.output.selection.result_set import select_results
from tagmill.bundles.metadata import BundleSpec, sha256_of
from tagmill.bundles.onnx_file import read_metadata
from tagmill.db.connection import connect
from tagmill.ledger.batches.leases import ROLLOUT_SECONDS
from tagmill.registry.models import register
from tagmill.registry.rollout.production import promote, rollback
from tagmill.registry.rollout.running import RolloutKind
from tagmill.registry.rollout.trials import begin

IMAGES = 400


def test_no_batch_fails_while_a_version_is_tried_promoted_and_rolled_back(site: Site) -> None:
    bundle = write_classifier(site.folder / "second.onnx", sharpness=-20.0)
    (site.folder / "models" / f"{sha256_of(bundle)}.onnx").write_bytes(bundle.read_bytes())
    write_folder(site.folder / "shop", IMAGES)
    engine = connect(site.env["TAGMILL_DATABASE_URL"])
    register(engine, BundleSpec.from_metadata(read_metadata(bundle)), sha256_of(bundle))
    promote(engine, "colors@1")
    run = int(str(site.submit(site.folder / "shop", "--model", "colors", "--batch-size", 4)["run"]))
    with engine.begin() as connection:  # half of it lasts until workers know of the canary, however fast they are
        held = text("UPDATE batch SET not_before = published_at + 3600 WHERE seq >= :half")
        connection.execute(held, {"half": IMAGES // 8})

    def done(share: float) -> None:
        wait_until(
            lambda: site.count("SELECT count(*) FROM batch WHERE status = 'done'") >= share * IMAGES / 4,
            120,
            f"{share:.0%} of the batches",
        )

    with (
        Worker.bare(site.env, site.folder / "one.log", "one") as one,
        Worker.bare(site.env, site.folder / "two.log", "two") as two,
    ):
        done(0.02)
        begin(engine, RolloutKind.SHADOW, "colors@2", 0.1, None)
        done(0.2)
        begin(engine, RolloutKind.CANARY, "colors@2", 0.3, None)
        time.sleep(ROLLOUT_SECONDS)
        with engine.begin() as connection:
            connection.execute(text("UPDATE batch SET not_before = published_at WHERE not_before > published_at"))
        wait_until(lambda: site.count("SELECT count(*) FROM canary_entry"), 60, "a canary to be shown")
        promote(engine, "colors@2")
        rollback(engine, "colors")
        site.wait_done(run)
        logs = one.log + two.log
    assert site.count("SELECT max(attempts) FROM batch") == 1
    assert "batch_failed" not in logs
    assert "canary_failed" not in logs
    versions = Counter(
        model.version for one in select_results(engine, ResultQuery(runs=(run,))) for model in one.models.values()
    )
    assert versions.total() == IMAGES
    assert versions[2] == site.count("SELECT count(*) FROM canary_entry")
    assert versions[2] > 0
    assert site.values("SELECT DISTINCT version FROM catalog_labels WHERE model = 'colors'") == [1]
    assert site.count("SELECT count(*) FROM catalog_entry WHERE place = 0") == IMAGES
    engine.dispose()
