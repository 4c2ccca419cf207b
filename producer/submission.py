"""Write what was asked for as a run: what `tagmill submit` and `producer.submit` have in common."""

from dataclasses import dataclass

from sqlalchemy import Engine

from producer.sources.open import open_sources, roots_of
from producer.sources.options import READ_ALL, ReadOptions
from tagmill.fetch_options import FETCH_ALL, FetchOptions
from tagmill.images.file_names import SkippedFiles
from tagmill.ledger.runs.create import Progress, create_run
from tagmill.ledger.runs.rerun import Chooser, Rerun
from tagmill.ledger.runs.submissions import SubmittedBefore, check_id, find_submission, require_same
from tagmill.measuring import Measuring
from tagmill.priority import Priority
from tagmill.registry.models import Model, resolve_for_run
from tagmill.tracing import Tracing


@dataclass(frozen=True)
class Submission:
    """What is to be tagged, with which models, and how."""

    #: folders, images, manifests, prefixes of object stores, queries
    sources: tuple[str, ...]
    #: NAME or NAME@VERSION
    models: tuple[str, ...]
    #: images of a message
    batch_size: int = 64
    #: further folders and prefixes that the images may be in
    allow_roots: tuple[str, ...] = ()
    priority: Priority = Priority.NORMAL
    rerun: Rerun = Rerun.ALL
    read: ReadOptions = READ_ALL
    fetch: FetchOptions = FETCH_ALL
    #: what is measured on the pictures
    measure: Measuring | None = None
    #: what the run is found by if the same submission comes again, which then queues nothing twice
    id: str | None = None


@dataclass(frozen=True)
class WrittenRun:
    """A run in SQL whose batches are not published yet."""

    run: int
    #: files of folders that are no entries
    skipped: SkippedFiles
    #: entries that `Submission.rerun` left out, and why, in words
    left_out: int
    reason: str
    #: whether it was submitted before under the same id, so that nothing was written now
    repeated: bool = False


@dataclass(frozen=True)
class Targets:
    """The models of a submission."""

    models: tuple[Model, ...]
    #: those of the models that were named without a version: their shadows and canaries run beside them
    following: tuple[Model, ...] = ()


def find_targets(engine: Engine, wanted: Submission) -> Targets:
    """Look the models up. Raise InputError if there is no such model."""
    named = {name: resolve_for_run(engine, name) for name in wanted.models}
    models = {found.sha256: found for found in named.values()}
    following = tuple(found for name, found in named.items() if "@" not in name)
    return Targets(tuple(models.values()), following)


def write_run(
    engine: Engine, wanted: Submission, targets: Targets, queue: str, progress: Progress = lambda images: None
) -> WrittenRun:
    """Read the sources and write the run in one transaction: it is in SQL as a whole or not at all.

    `progress` is told the number of images written so far. Raise InputError for a source that is missing and for the
    first entry that cannot be used, and NothingToDo if no entry is left. A submission whose id has a run already reads
    no source, which may be gone, writes nothing and returns that run. Raise InputError if that run has other sources
    or models.
    """
    if earlier := _earlier(engine, wanted, targets):
        return earlier
    try:
        return _write_new(engine, wanted, targets, queue, progress)
    except SubmittedBefore:  # meanwhile, by another process
        earlier = _earlier(engine, wanted, targets)
        assert earlier is not None, "it was committed, and nothing deletes it so soon"
        return earlier


def _earlier(engine: Engine, wanted: Submission, targets: Targets) -> WrittenRun | None:
    found = None if wanted.id is None else find_submission(engine, check_id(wanted.id))
    if found is None:
        return None
    require_same(found, str(wanted.id), " ".join(wanted.sources), [model.name for model in targets.models])
    return WrittenRun(found.run, SkippedFiles(), 0, "", repeated=True)


def _write_new(engine: Engine, wanted: Submission, targets: Targets, queue: str, progress: Progress) -> WrittenRun:
    roots = (*roots_of(wanted.sources, wanted.read), *wanted.allow_roots)
    skipped, chooser = SkippedFiles(), Chooser(engine, wanted.rerun, targets.models)
    run_id = create_run(
        engine,
        " ".join(wanted.sources),
        chooser.choose(open_sources(wanted.sources, skipped, wanted.read)),
        targets.models,
        roots,
        wanted.batch_size,
        queue,
        progress=progress,
        priority=wanted.priority,
        fetching=wanted.fetch,
        measuring=wanted.measure,
        submission=wanted.id,
        traceparent=Tracing.traceparent,
        following=targets.following,
    )
    return WrittenRun(run_id, skipped, chooser.left_out, chooser.reason() if chooser.left_out else "")
