"""Delete what ended long ago and is shown no more. It may be interrupted at any time; repeated, it goes on."""

import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, delete, select
from sqlalchemy.exc import OperationalError

from tagmill.db.audit import Action, record
from tagmill.db.connection import database_time, reading
from tagmill.db.roles import owns_tables
from tagmill.db.schema import batch_failure, worker_state
from tagmill.errors import ConfigurationError
from tagmill.ledger.fleet.workers import KEPT_SECONDS
from tagmill.ledger.pruning.counts import Counts, Report
from tagmill.ledger.pruning.fence import deleting, forget_marks
from tagmill.ledger.pruning.images import count_images, delete_images, delete_results, forget_places
from tagmill.ledger.pruning.models import unused_models
from tagmill.ledger.pruning.old_runs import OldRun, RunBusyError, delete_run, old_runs, thin_run
from tagmill.ledger.pruning.references import References

#: deletes the file of a bundle with this sha256, and returns its bytes; 0 if there is none
RemoveBundle = Callable[[str], int]
_RETRY_SECONDS = 0.5


def require_owner(engine: Engine) -> None:
    """Raise ConfigurationError if this login may not delete everywhere."""
    if engine.dialect.name != "postgresql":
        return
    with reading(engine) as connection:
        if not owns_tables(connection):
            raise ConfigurationError("prune needs the tables' owner; name its login in TAGMILL_DATABASE_URL")


def prune(engine: Engine, seconds: float, report: Report, remove_bundle: RemoveBundle | None = None) -> Counts:
    """Delete what ended more than `seconds` ago and is shown no more; with `remove_bundle` unused bundles, too.

    Who did it and what was deleted is recorded at the end, and when it is interrupted.
    """
    require_owner(engine)
    before, counts = database_time(engine) - seconds, Counts()
    try:
        forget_marks(engine)
        _delete_runs(engine, before, counts, report)
        references = _begin(engine)
        references.read(engine, report)
        delete_images(engine, references, counts, report)
        if unused := unused_models(engine, before):
            counts.models = [model.title for model in unused]
            delete_results(engine, [model.id for model in unused], counts, report)
        forget_places(engine, counts, report)
        for model in unused if remove_bundle else []:
            if not model.is_label_set and remove_bundle and (size := remove_bundle(model.sha256)):
                counts.bundles.append(model.title)
                counts.bundle_bytes += size
        with engine.begin() as connection:
            ended = worker_state.c.seen_at < before + seconds - KEPT_SECONDS
            connection.execute(delete(worker_state).where(ended))
    finally:
        if not counts.nothing:
            with engine.begin() as connection:
                record(connection, Action.PRUNE, details={"older_than_seconds": seconds} | counts.to_json())
    return counts


def preview(engine: Engine, seconds: float, report: Report) -> Counts:
    """Return what `prune` would delete. Results of models, and known files and URLs, are not counted."""
    require_owner(engine)
    before, counts = database_time(engine) - seconds, Counts()
    runs = old_runs(engine, before)
    whole: dict[int, set[int]] = {}
    for number, old in enumerate(runs):
        report("looking at runs", number, len(runs))
        if old.shown:
            thin_run(engine, old, before, counts, dry=True)
            whole[old.id] = _failed_batches(engine, old.id)
        else:
            counts.runs += 1
            counts.entries += old.images
    gone = {old.id for old in runs if not old.shown}

    def skipped(row: Any) -> bool:
        return row.run_id in gone or (row.run_id in whole and row.batch_id not in whole[row.run_id])

    references = _begin(engine)
    references.read(engine, report, skipped)
    counts.images = count_images(engine, references)
    counts.models = [model.title for model in unused_models(engine, before, gone)]
    return counts


def _delete_runs(engine: Engine, before: float, counts: Counts, report: Report) -> None:
    runs = old_runs(engine, before)
    for number, old in enumerate(runs):
        report("deleting runs", number, len(runs))
        _delete_run(engine, old, before, counts)


def _delete_run(engine: Engine, old: OldRun, before: float, counts: Counts) -> None:
    try:
        (thin_run if old.shown else delete_run)(engine, old, before, counts)
    except RunBusyError:
        pass  # somebody retries it: it is not old any more


def _failed_batches(engine: Engine, run_id: int) -> set[int]:
    with reading(engine) as connection:
        found = select(batch_failure.c.batch_id).where(batch_failure.c.run_id == run_id).distinct()
        return set(connection.execute(found).scalars())


def _begin(engine: Engine) -> References:
    while True:
        try:
            with deleting(engine) as connection:
                return References.begin(connection)
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != "55P03":  # lock_not_available: a completion takes long
                raise
        time.sleep(_RETRY_SECONDS)
