"""Tag single files with the worker's own stages, without a queue or a database."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tagmill.records import InferenceRow
from tagmill.settings import Settings
from worker.inference.session import Session
from worker.inference.session_cache import NamedBundles
from worker.pipeline.batch_image import BatchImage
from worker.pipeline.tagger import build_tagger


@dataclass(frozen=True)
class PredictedImage:
    """One file with the answer of each bundle, or the reason for the failure."""

    path: Path
    #: (model name, answer)
    answers: tuple[tuple[str, InferenceRow], ...]
    failure: str | None


def predict_files(settings: Settings, paths: Sequence[Path], bundles: Sequence[Path]) -> list[PredictedImage]:
    """Return one answer per file, in the order of `paths`. The files may be in any folder.

    Raise InputError if a bundle is named twice, and the errors of a bundle that cannot be loaded.
    """
    files = NamedBundles.of(bundles)
    tagger = build_tagger(settings, files)
    try:
        sessions = [tagger.sessions.get(sha256) for sha256 in files.files]
        absolute = [path.resolve() for path in paths]
        images = [BatchImage(number, str(path)) for number, path in enumerate(absolute)]
        roots = tuple(dict.fromkeys(str(path.parent) for path in absolute))
        tagged = tagger.tag(images, sessions, roots)
    finally:
        tagger.close()
    names = dict(zip((session.sha256 for session in sessions), _unique_names(sessions), strict=True))
    return [_predicted(path, image.twin or image, names) for path, image in zip(paths, tagged, strict=True)]


def _predicted(path: Path, image: BatchImage, names: dict[str, str]) -> PredictedImage:
    answers = tuple((names[row.model_sha256], row) for row in image.answers)
    return PredictedImage(path, answers, f"{image.code}: {image.detail}" if image.code else None)


def _unique_names(sessions: Sequence[Session]) -> list[str]:
    """Name each bundle as the results of a run do: NAME@VERSION if two share a name, numbered as by `tagmill tag`."""
    names = [session.spec.name for session in sessions]
    return [
        name if names.count(name) == 1 else f"{name}@{names[: at + 1].count(name)}" for at, name in enumerate(names)
    ]
