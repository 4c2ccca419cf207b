"""One image of the page as a row of JSON values, and the tables that its numbers point to."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from producer.output.image_result import ImageResult
from producer.output.shown import shown_extra
from producer.report.measure.figures import ModelFigures
from producer.report.preview.activation_maps import shown_map
from producer.report.preview.outlines import Detail, outline, view_box
from tagmill.extra import parse_extra, text_of
from tagmill.images.preprocess import PreprocessSpec
from tagmill.locations.redact import shown_uri
from tagmill.tasks.masks import figure_colors
from tagmill.text import legible

#: characters of a key, a location or a detail, and of a value of a further column
MOST, MOST_OF_VALUE = 600, 200
#: characters of the further columns of all images together, and the least that those of one image may have
ALL_COLUMNS, LEAST_OF_COLUMNS = 3_000_000, 300


def model_table(figures: ModelFigures) -> dict[str, Any]:
    """Return what the page knows of a model."""
    colors = (figure_colors() * 255).round().astype(int).tolist()
    masks = figures.task.gives_masks
    given = dict(figures.by_label)
    return {
        "name": figures.name,
        "masks": masks,
        "maps": bool(figures.model.spec.get("activation_map")),
        "judged": figures.judged,
        "multilabel": figures.task.multilabel,
        "labels": [legible(label) for label in figures.model.labels],
        "colors": ["#{:02x}{:02x}{:02x}".format(*colors[n % 256]) for n in range(len(figures.model.labels))]
        if masks
        else [],
        "counts": [given[label].images if label in given else 0 for label in figures.model.labels],
        "thresholds": [figures.thresholds.get(label) for label in figures.model.labels],
        "histograms": {n: given[label].histogram for n, label in enumerate(figures.model.labels) if label in given},
    }


class RowWriter:
    """Makes the rows of images. Scores are in thousandths."""

    def __init__(self, models: Sequence[ModelFigures], truth: Mapping[str, tuple[str, ...]], images: int) -> None:
        """`images` are on the page: the more there are, the less is shown of each."""
        self._detail = Detail.for_images(images)
        self._of_columns = max(LEAST_OF_COLUMNS, ALL_COLUMNS // max(1, images))
        self._models = models
        self._truth = truth
        self._numbers = [{label: n for n, label in enumerate(found.model.labels)} for found in models]
        self._specs = [PreprocessSpec.from_dict(found.model.spec["preprocess"]) for found in models]

    def row(self, result: ImageResult, note: str) -> list[Any]:
        """Return the row of an image. `note` says why it has no thumbnail, "" if it has one."""
        box = view_box(result.width, result.height, self._detail) if result.width and result.height else None
        truth = self._truth.get(result.image_key, ())
        return [
            shown_key(result.image_key),
            _cut(shown_uri(result.uri)),
            int(result.uri == shown_uri(result.uri)),
            result.status,
            result.error_code or "",
            _cut(result.error_detail or ""),
            note,
            [result.width, result.height, *box] if box else None,
            [self._answer(number, result) for number in range(len(self._models))] if box else [],
            [legible(label) for label in truth],
            self._columns(result),
        ]

    def _answer(self, number: int, result: ImageResult) -> list[Any]:
        """Return certainty, number of labels given, labels with scores, outlines, areas and map, of one model."""
        figures, numbers = self._models[number], self._numbers[number]
        labels, masks = result.labels.get(figures.name, []), result.masks.get(figures.name, [])
        certainty = figures.task.certainty(labels, masks)
        given = figures.task.given(labels, masks)
        shown = labels or given
        flat = [value for label, score in shown if label in numbers for value in (numbers[label], _thousandths(score))]
        answer: list[Any] = [None if certainty is None else _thousandths(certainty), len(given), flat]
        if figures.task.gives_masks and result.width and result.height:
            answer.append(
                [outline(found, self._specs[number], result.width, result.height, self._detail) for found in masks]
            )
            answer.append([_thousandths(found.area_share) for found in masks])
        elif (found_map := result.maps.get(figures.name)) and result.width and result.height:
            size = (result.width, result.height)
            answer += [[], [], shown_map(found_map, self._specs[number], *size, self._detail)]
        return answer

    def _columns(self, result: ImageResult) -> list[list[str]]:
        """Return the further columns of the manifest as names and values, as many as there is room for."""
        found, room = [], self._of_columns
        for name, value in parse_extra(shown_extra(result.extra)).items():
            pair = [_cut(text, MOST_OF_VALUE) for text in (name, text_of(value))]
            room -= sum(map(len, pair))
            if room < 0:
                found.append(["…", "further columns are in the results"])
                break
            found.append(pair)
        return found


def shown_key(key: str) -> str:
    """Return the key of an image as the page has it."""
    return _cut(key)


def in_script(value: Any) -> str:
    """Return JSON for a script element: no `<`, so that nothing inside ends the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _cut(text: str, most: int = MOST) -> str:
    text = legible(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _thousandths(value: float) -> int:
    return round(1000 * min(1.0, max(0.0, value))) if value == value else 0
