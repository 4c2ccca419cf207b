"""What people and programs see of runs: their progress, and the views of labels and masks."""

import time

from sqlalchemy import Engine, update
from support.ledger import SHA, batches, new_run, result_for, take

from tagmill.db.schema import batch
from tagmill.ledger.complete import complete
from tagmill.ledger.runs.control import pause_run, resume_run
from tagmill.ledger.runs.create import cancel_run
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


def test_the_view_of_runs_agrees_with_their_progress_in_every_state(engine: Engine, model: Model) -> None:
    run, done = (new_run(engine, model, images=images, batch_size=3) for images in (9, 1))
    first, second, _ = batches(engine, run)
    states = [agreed_state(engine, run)]
    claimed = take(engine, first)
    assert claimed is not None
    assert complete(engine, claimed, result_for(claimed), "worker")
    states.append(agreed_state(engine, run))
    pause_run(engine, run)
    states.append(agreed_state(engine, run))
    resume_run(engine, run)
    running = take(engine, second)
    cancel_run(engine, run)
    states.append(agreed_state(engine, run))
    for claimed in (running, take(engine, *batches(engine, done))):
        assert claimed is not None
        assert complete(engine, claimed, result_for(claimed), "worker")
    states += [agreed_state(engine, run), agreed_state(engine, done)]
    assert states == ["queued", "running", "paused", "running", "cancelled", "done"]


def agreed_state(engine: Engine, run: int) -> str:
    """Return the state of a run, and check that the view shows what `run_progress` says."""
    progress = run_progress(engine, run)
    with engine.connect() as connection:
        shown = connection.exec_driver_sql(f"SELECT * FROM run_status WHERE run_id = {run}").mappings().one()
    for name in ("state", "images", "tagged", "failed", "started_at", "finished_at", "queue"):
        assert shown[name] == getattr(progress, name), name
    assert shown["models"] == ", ".join(progress.models)
    assert {status: shown[f"{status}_batches"] for status in progress.batches} == progress.batches
    return progress.state
