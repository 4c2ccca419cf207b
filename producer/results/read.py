"""Read the results of a run from SQL, image by image, in flat memory."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, select

from tagmill.db.connection import reading
from tagmill.db.schema import image, inference, label, mask, run, run_image, run_model
from tagmill.errors import InputError
from tagmill.records import Mask
from tagmill.registry.models import Model, models_by_sha256

#: images per round of queries
PAGE = 500


@dataclass(frozen=True)
class ImageResult:
    """One image of a run with its labels and masks, by model name."""

    position: int
    image_key: str
    uri: str
    status: str
    error_code: str | None
    error_detail: str | None
    sha256: str | None
    width: int | None
    height: int | None
    #: (label, score), best first
    labels: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    masks: dict[str, list[Mask]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        answers: dict[str, Any] = {}
        for name, labels in self.labels.items():
            answers[name] = {"labels": [{"label": text, "score": score} for text, score in labels]}
        for name, masks in self.masks.items():
            answers.setdefault(name, {})["masks"] = [found.to_json() for found in masks]
        facts = ("image_key", "uri", "status", "error_code", "error_detail", "sha256", "width", "height")
        return {name: getattr(self, name) for name in facts} | {"models": answers}


def run_models(engine: Engine, run_id: int) -> list[Model]:
    """Return the models pinned for a run, sorted by name and version. Raise InputError if there is no such run."""
    with reading(engine) as connection:
        if connection.execute(select(run.c.id).where(run.c.id == run_id)).one_or_none() is None:
            raise InputError(f"no run {run_id}; see `tagmill run list`")
        chosen = list(
            connection.execute(select(run_model.c.model_sha256).where(run_model.c.run_id == run_id)).scalars()
        )
    return sorted(models_by_sha256(engine, chosen).values(), key=lambda found: (found.name, found.version))


def read_results(engine: Engine, run_id: int, models: Sequence[Model]) -> Iterator[ImageResult]:
    """Yield every image of a run in the order of its manifest."""
    last = -1
    while True:
        with reading(engine) as connection:
            page = connection.execute(
                select(run_image, image.c.width, image.c.height)
                .outerjoin(image, image.c.sha256 == run_image.c.sha256)
                .where(run_image.c.run_id == run_id, run_image.c.position > last)
                .order_by(run_image.c.position)
                .limit(PAGE)
            ).all()
            if not page:
                return
            answers = _answers(connection, [row.sha256 for row in page if row.sha256], models)
        for row in page:
            labels, masks = answers.get(row.sha256, ({}, {}))
            yield ImageResult(
                *(row.position, row.image_key, row.uri, row.status, row.error_code, row.error_detail),
                *(row.sha256, row.width, row.height, labels, masks),
            )
        last = page[-1].position


_Answers = dict[str, tuple[dict[str, list[tuple[str, float]]], dict[str, list[Mask]]]]


def _answers(connection: Connection, shas: Sequence[str], models: Sequence[Model]) -> _Answers:
    names = unique_names(models)
    wanted = inference.c.image_sha256.in_(shas) & inference.c.model_sha256.in_(list(names))
    answers: _Answers = defaultdict(lambda: ({}, {}))
    for row in connection.execute(
        select(inference.c.image_sha256, inference.c.model_sha256, label.c.label, label.c.score)
        .join(label, label.c.inference_id == inference.c.id)
        .where(wanted)
        .order_by(inference.c.id, label.c.rank)
    ):
        answers[row.image_sha256][0].setdefault(names[row.model_sha256], []).append((row.label, row.score))
    for row in connection.execute(
        select(inference.c.image_sha256, inference.c.model_sha256, mask)
        .join(mask, mask.c.inference_id == inference.c.id)
        .where(wanted)
        .order_by(inference.c.id, mask.c.area_share.desc(), mask.c.label)
    ):
        found = Mask(
            label=row.label,
            rle=row.rle,
            height=row.height,
            width=row.width,
            area_share=row.area_share,
            box=(row.box_left, row.box_top, row.box_right, row.box_bottom),
            score=row.score,
        )
        answers[row.image_sha256][1].setdefault(names[row.model_sha256], []).append(found)
    return answers


def unique_names(models: Sequence[Model]) -> dict[str, str]:
    """Return a name per model sha256: NAME, or NAME@VERSION if a run compares two versions."""
    names = [found.name for found in models]
    return {found.sha256: found.name if names.count(found.name) == 1 else found.title for found in models}
