"""The bundles that workers load: those in production, and those of runs that are not finished."""

import os
from collections.abc import Iterator
from pathlib import Path

from tagmill.errors import BundleError, ServiceDown, first_line
from tagmill.ledger.fleet.needed import needed_models
from tagmill.registry.open_store import open_store
from worker.doctor.finding import Finding, Level, Subject, error, ok, skipped, warning


def check(subject: Subject) -> Iterator[Finding]:
    """Yield whether this machine reads the model store, and which bundles are missing or damaged there.

    Bundles of a store elsewhere are fetched into the cache of this machine, as a worker does.
    """
    place = subject.settings.model_store
    if isinstance(place, Path):
        yield _folder(place, needed=subject.runs_models)
    elif not subject.runs_models:
        yield skipped(f"{place}: not looked at, as no worker can run here")
        return
    models = needed_models(subject.database())
    store, whole = open_store(subject.settings), 0
    for model in models:
        try:
            store.verified(model.sha256)
            whole += 1
        except ServiceDown as failure:
            yield error(first_line(failure), "start it, or correct TAGMILL_MODEL_STORE")
            return
        except BundleError as failure:
            # A producer submits without the bundles.
            level = Level.ERROR if subject.runs_models else Level.WARNING
            yield Finding(level, f"{model.title}: {first_line(failure)}", "register its file again: tagmill model add")
    if not models:
        yield ok("no model is registered yet")
    elif whole == len(models):
        yield ok(f"the bundles in production and of unfinished runs are there and intact: {whole}")


def _folder(folder: Path, *, needed: bool) -> Finding:
    if not folder.is_dir():
        what = f"{folder}: there is no such folder"
        advice = "set TAGMILL_MODEL_STORE, or mount it at this path; the first `tagmill model add` makes it"
        return error(what, advice) if needed else skipped(f"{what} here", f"{advice}, if workers are to run here")
    if not os.access(folder, os.R_OK | os.X_OK):
        return error(f"{folder}: this user may not read it", "let the worker's user read TAGMILL_MODEL_STORE")
    if not os.access(folder, os.W_OK):
        return ok(f"{folder}: can be read, not written to; `tagmill model add` needs that")
    if len(folder.parts) < 2:
        return warning(f"{folder}: is the root of a disk", "set TAGMILL_MODEL_STORE to a folder of its own")
    return ok(f"{folder}: can be read and written to")
