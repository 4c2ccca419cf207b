"""Leave out images and labels that a query does not ask for, and secrets of URLs."""

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import replace
from functools import partial, reduce
from itertools import chain
from math import inf
from typing import Any

from producer.output.image_result import ImageResult
from producer.output.selection.query import ResultQuery
from producer.output.shown import shown_extra
from tagmill.errors import InputError
from tagmill.locations.redact import shown_uri
from tagmill.records import Mask
from tagmill.registry.models import Model
from tagmill.tasks.base import task_named
from tagmill.text import normalize
from tagmill.where import Where

Filter = Callable[[Iterable[ImageResult]], Iterator[ImageResult]]


def result_filter(query: ResultQuery) -> Filter:
    """Return what leaves out the images and labels that the query does not ask for."""
    stages: list[Filter] = []
    if query.where:
        stages.append(partial(_where, query.where))
    if query.thresholds:
        stages.append(_above_thresholds)
    if query.min_score is not None:
        stages.append(partial(_above_score, query.min_score))
    if query.labels:
        stages.append(partial(_with_label, {normalize(label) for label in query.labels}))
    if not query.full_urls:
        stages.append(_without_secrets)
    return lambda results: reduce(lambda found, stage: stage(found), stages, iter(results))


def require_thresholds(models: Iterable[Model]) -> None:
    """Raise InputError if training suggested no threshold for any of the models."""
    models = list(models)
    if not any(model.spec.get("thresholds") for model in models):
        names = ", ".join(model.title for model in models)
        raise InputError(f"--thresholds: training suggested none for {names or 'these results'}; use --min-score")


def _where(where: Where, results: Iterable[ImageResult]) -> Iterator[ImageResult]:
    return (found for found in results if where.matches(found.image_key, found.uri, found.extra))


def _above_thresholds(results: Iterable[ImageResult]) -> Iterator[ImageResult]:
    """Leave out the labels and masks below their thresholds. The images stay, and models without thresholds."""
    for found in results:
        labels, masks = dict(found.labels), dict(found.masks)
        for name, model in found.models.items():
            if least := model.spec.get("thresholds"):
                # If an image has one label, a threshold is that of the best label.
                best = labels.pop(name, [])[: None if task_named(model.task).multilabel else 1]
                # Training found no score at which a label without a threshold is right often enough.
                _put(labels, name, [one for one in best if one[1] >= least.get(one[0], inf)])
                _put(masks, name, [one for one in masks.pop(name, []) if one.score >= least.get(one.label, inf)])
        yield replace(found, labels=labels, masks=masks) if found.models else found


def _above_score(least: float, results: Iterable[ImageResult]) -> Iterator[ImageResult]:
    """Leave out the labels and masks of lower scores. The images stay."""
    for found in results:
        labels: dict[str, list[tuple[str, float]]] = {}
        masks: dict[str, list[Mask]] = {}
        for name, best in found.labels.items():
            _put(labels, name, [one for one in best if one[1] >= least])
        for name, made in found.masks.items():
            _put(masks, name, [one for one in made if one.score >= least])
        yield replace(found, labels=labels, masks=masks) if found.models else found


def _put(answers: dict[str, list[Any]], name: str, found: list[Any]) -> None:
    if found:
        answers[name] = found


def _with_label(labels: Container[str], results: Iterable[ImageResult]) -> Iterator[ImageResult]:
    """Keep the images that have one of the labels."""
    for found in results:
        given = (label for best in found.labels.values() for label, _ in best)
        drawn = (mask.label for made in found.masks.values() for mask in made)
        if any(label in labels for label in chain(given, drawn)):
            yield found


def _without_secrets(results: Iterable[ImageResult]) -> Iterator[ImageResult]:
    for found in results:
        # A path has no secrets.
        uri = found.uri if found.uri.startswith("/") else shown_uri(found.uri)
        extra = shown_extra(found.extra)
        yield found if (uri, extra) == (found.uri, found.extra) else replace(found, uri=uri, extra=extra)
