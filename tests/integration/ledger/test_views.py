"""What people and programs see of runs: their progress, and the views of labels and masks."""

import time

from sqlalchemy import Engine, update
from support.ledger import SHA, batches, new_run, result_for, take

from tagmill.db.schema import batch
from tagmill.ledger.complete import complete
from tagmill.ledger.runs.progress import run_progress
from tagmill.registry.models import Model


def test_times_are_by_the_databases_clock(engine: Engine, model: Model) -> None:
    run_id = new_run(engine, model)
    with engine.begin() as connection:
        connection.execute(update(batch).values(started_at=None))
    progress = run_progress(engine, run_id)
    assert abs(progress.read_at - time.time()) < 5
    assert (progress.state, progress.seconds, progress.eta_seconds) == ("queued", 0.0, None)


def test_the_views_show_the_newest_run_of_each_model(engine: Engine, model: Model) -> None:
    for sha256, answer in ((SHA[0], "red"), (SHA[1], "blue")):
        claimed = take(engine, batches(engine, new_run(engine, model, images=1))[0])
        assert claimed is not None
        assert complete(engine, claimed, result_for(claimed, sha256, answer), "worker")
    with engine.connect() as connection:
        labels = connection.exec_driver_sql(
            "SELECT image_key, model, label, score FROM catalog_labels WHERE rank = 1"
        ).all()
        masks = connection.exec_driver_sql("SELECT image_key, label, area_share, sha256 FROM catalog_masks").all()
    assert labels == [("key-0", "shirts", "blue", 0.9)]
    assert masks == [("key-0", "red", 0.25, SHA[1])]
