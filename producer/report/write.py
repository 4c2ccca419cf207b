"""Write the report of a run: its figures from all images, and the images that the page shows."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from producer.output.image_result import ImageResult
from producer.output.model_names import unique_names
from producer.output.read.models import canary_models, run_models
from producer.output.read.runs import read_results
from producer.report.drift import drift_values
from producer.report.duplicates import duplicate_values
from producer.report.measure.figures import BINS, ModelFigures, RunFigures
from producer.report.measure.selection import Selected, Selection
from producer.report.page import write_page
from producer.report.preview.previews import Preview, previews_of
from producer.report.preview.thumbnails import ThumbnailSize
from producer.report.rows import RowWriter, model_table
from producer.report.rules import rule_values
from producer.report.values import page_values
from tagmill.errors import InputError
from tagmill.files import open_atomic
from tagmill.ledger.runs.cost import run_cost
from tagmill.ledger.runs.progress import run_progress
from tagmill.registry.models import Model
from tagmill.settings import Settings

#: shows a bar of that many images under a title; the function that it yields counts one
Bar = Callable[[str, int], AbstractContextManager[Callable[[], None]]]


@dataclass(frozen=True)
class ReportOptions:
    """What a report shows."""

    #: the most images on the page
    images: int = 10_000
    #: of the images that are drawn at random
    seed: int = 0
    #: image key -> its true labels
    truth: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: the run that it is compared with
    reference: int | None = None


@dataclass(frozen=True)
class Report:
    """A page that was written."""

    path: Path
    images: int
    shown: int
    #: images that have no thumbnail, because they could not be read
    unreadable: int


def write_report(
    engine: Engine, run_id: int, out: Path, settings: Settings, options: ReportOptions, bar: Bar
) -> Report:
    """Read the run twice, page by page: for the figures, and for the images that are shown. Write the page to `out`."""
    models = [*run_models(engine, run_id), *canary_models(engine, run_id)]
    names = unique_names(models)
    progress = run_progress(engine, run_id)
    drift = drift_values(engine, run_id, options.reference)
    figures = RunFigures([(names[model.sha256], model) for model in models], options.truth)
    with bar("reading results", progress.images) as advance:
        chosen = _measure(engine, run_id, models, figures, options, advance)
    values = page_values(progress, run_cost(progress, settings), figures, chosen, options.seed)
    values |= drift | duplicate_values(engine, run_id) | rule_values(engine, run_id)
    with_maps = any(found.model.spec.get("activation_map") for found in figures.models)
    read = read_results(engine, run_id, models, with_maps=with_maps)
    results = (one for one in read if one.position in chosen.positions)
    shown = len(chosen.positions)
    rows = RowWriter(figures.models, options.truth, shown)
    with bar("making thumbnails", shown) as advance:
        previews = previews_of(results, rows, ThumbnailSize.for_images(shown), settings, advance)
        unreadable = _write(out, values, figures, previews)
    return Report(out, figures.images, shown, unreadable)


def _write(out: Path, values: Mapping[str, Any], figures: RunFigures, previews: Iterator[Preview]) -> int:
    """Write the page; return how many of its images could not be read."""
    models = [model_table(found) for found in figures.models]
    tables = {"models": models, "truth": bool(figures.with_truth), "bins": BINS}
    unreadable = 0

    def counted() -> Iterator[Preview]:
        nonlocal unreadable
        for preview in previews:
            unreadable += preview.unreadable
            yield preview

    try:
        with open_atomic(out) as file:
            write_page(file, values, tables, counted())
    except OSError as error:
        raise InputError(f"{out}: {error.strerror}") from error
    return unreadable


def _measure(
    engine: Engine,
    run_id: int,
    models: list[Model],
    figures: RunFigures,
    options: ReportOptions,
    advance: Callable[[], None],
) -> Selected:
    """Add all images to the figures; return which are shown."""
    selection = Selection(options.images, options.seed)
    for result in read_results(engine, run_id, models):
        right = figures.add(result)
        certainties = [_certainty(found, result) for found in figures.models]
        least = min((value for value in certainties if value is not None), default=None)
        selection.add(result.position, least, failed=result.error_code is not None, wrong=False in right)
        advance()
    return selection.chosen()


def _certainty(figures: ModelFigures, result: ImageResult) -> float | None:
    return figures.task.certainty(result.labels.get(figures.name, []), result.masks.get(figures.name, []))
