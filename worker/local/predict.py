"""Tag single files with the worker's own reading and inference, with no queue and no database."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tagmill.errors import InputError
from tagmill.images.image import DecodeLimits
from tagmill.records import InferenceRow, Outcome, PendingImage
from tagmill.settings import Settings
from worker.inference.session import Session
from worker.pipeline.infer import tag_images
from worker.pipeline.reader import BatchReader, FetchedImage
from worker.sources.fetcher import Fetcher, FetchLimits
from worker.threads.timeout_pool import TimeoutPool


@dataclass(frozen=True)
class PredictedImage:
    """One file with each bundle's answer, or the reason why there is none."""

    path: Path
    answers: tuple[tuple[str, InferenceRow], ...]
    failure: str | None


def predict(settings: Settings, paths: Sequence[Path], sessions: Sequence[Session]) -> list[PredictedImage]:
    """Return one answer a file, in the order of `paths`. The files named may be read wherever they lie.

    Raises InputError where a bundle is named twice.
    """
    names = _unique_names(sessions)
    absolute = [path.resolve() for path in paths]
    limits = FetchLimits(settings.max_image_bytes, settings.fetch_timeout, settings.allow_private_hosts)
    fetcher = Fetcher([path.parent for path in absolute], limits)
    with TimeoutPool(os.cpu_count() or 1) as pool:
        reader = BatchReader(pool, fetcher.fetch, DecodeLimits(settings.max_image_pixels, settings.max_image_frames))
        fetched = reader.fetch(PendingImage(number, str(path)) for number, path in enumerate(absolute))
        specs = {session.spec.preprocess for session in sessions}
        found = [image for image in fetched if isinstance(image, FetchedImage)]
        decoded = reader.decode(found, {image.sha256: specs for image in found})
    failures = {image.position: image for image in [*fetched, *decoded] if isinstance(image, Outcome)}
    distinct = {image.row.sha256: image for image in decoded if not isinstance(image, Outcome)}
    sha256_at = {image.position: image.sha256 for image in found}
    answers: dict[str, list[tuple[str, InferenceRow]]] = {sha256: [] for sha256 in distinct}
    reasons: dict[str, str] = {}
    for name, session in zip(names, sessions, strict=True):
        tagged = tag_images(session, list(distinct.values()), session.best_batch)
        reasons |= {sha256: f"{code}: {detail}" for sha256, (code, detail) in tagged.failed.items()}
        for row in tagged.rows:
            answers[row.image_sha256].append((name, row))
    predictions = []
    for number, path in enumerate(paths):
        failed = failures.get(number)
        sha256 = sha256_at.get(number, "")
        reason = f"{failed.error_code}: {failed.error_detail}" if failed else reasons.get(sha256)
        predictions.append(PredictedImage(path, tuple(answers.get(sha256, ())), reason))
    return predictions


def _unique_names(sessions: Sequence[Session]) -> list[str]:
    """Name each bundle as the results of a run do: NAME@VERSION where two share a name, counted as `tagmill tag` would.

    Raises InputError where the same bundle is named twice.
    """
    if len({session.sha256 for session in sessions}) < len(sessions):
        raise InputError("the same bundle is named twice")
    names = [session.spec.name for session in sessions]
    return [
        name if names.count(name) == 1 else f"{name}@{names[: at + 1].count(name)}" for at, name in enumerate(names)
    ]
