"""What models said of the images of a page: labels and masks."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, select

from producer.output.read.pages import Columns, by_id
from tagmill.db.any_of import any_of
from tagmill.db.schema import LABELS, activation_map, further_label, label_name, result, result_mask
from tagmill.records import ActivationMap, Mask
from tagmill.registry.models import Model
from tagmill.text import normalize

_RESULT = (
    *(result.c.image_id, result.c.model_id),
    *(result.c[f"label_{rank}"] for rank in range(1, LABELS + 1)),
    *(result.c[f"score_{rank}"] for rank in range(1, LABELS + 1)),
)
#: the columns of labels and of scores in `_RESULT`, best first
_LABELS, _SCORES = slice(2, 2 + LABELS), slice(2 + LABELS, 2 + 2 * LABELS)
_FURTHER = (further_label.c.image_id, further_label.c.model_id, further_label.c.label_id, further_label.c.score)


class Answers(NamedTuple):
    """What models said of one image, by model name."""

    labels: dict[str, list[tuple[str, float]]]
    masks: dict[str, list[Mask]]
    models: dict[str, Model]


def chosen(found: Answers, names: Iterable[tuple[str, str]]) -> Answers:
    """Return the answers of some models, under other names: pairs of the old and the new one."""
    renamed = [(old, new) for old, new in names if old in found.models]
    return Answers(
        {new: found.labels[old] for old, new in renamed if old in found.labels},
        {new: found.masks[old] for old, new in renamed if old in found.masks},
        {new: found.models[old] for old, new in renamed},
    )


class AnswerReader:
    """Reads what some models said. Each label is read once."""

    def __init__(self, models: Sequence[Model], names: Mapping[str, str]) -> None:
        """`names` are the names of the models in the results, by sha256."""
        self._models = {found.id: found for found in models}
        self._names = {found.id: names[found.sha256] for found in models}
        self._order = {found.id: number for number, found in enumerate(models)}
        self._words: dict[int, str] = {}

    def read(self, connection: Connection, images: Sequence[int]) -> dict[int, Answers]:
        """Return what the models said of each image, by image id; the models of an image in their order."""
        of_these = {"images": images, "models": list(self._models)}
        results = connection.execute(_of_images(_RESULT), of_these).all()
        further = connection.execute(_of_images(_FURTHER).order_by(further_label.c.rank), of_these).all()
        masks = connection.execute(_of_images(tuple(result_mask.c)), of_these).all()
        self._read_words(connection, results, further, masks)
        answers: dict[int, Answers] = defaultdict(lambda: Answers({}, {}, {}))
        if len(self._models) > 1:
            results = sorted(results, key=lambda row: self._order[row[1]])
        self._add_labels(answers, results, further)
        if masks:
            self._add_masks(answers, masks)
        return answers

    def read_maps(self, connection: Connection, images: Sequence[int]) -> dict[int, dict[str, ActivationMap]]:
        """Return the activation maps of each image that has any, by image id and model name."""
        of_these = {"images": images, "models": list(self._models)}
        maps: dict[int, dict[str, ActivationMap]] = defaultdict(dict)
        for row in connection.execute(_of_images(tuple(activation_map.c)), of_these):
            found = ActivationMap(row.height, row.width, bytes(row.levels))
            maps[row.image_id][self._names[row.model_id]] = found
        return maps

    def _read_words(self, connection: Connection, results: Iterable[Any], further: Iterable[Any], masks: Any) -> None:
        numbers = chain(
            *(row[_LABELS] for row in results), (row[2] for row in further), (row.label_id for row in masks)
        )
        if new := set(numbers) - self._words.keys() - {None}:
            found = by_id(connection, (label_name.c.id, label_name.c.name), new)
            self._words |= {row.id: normalize(row.name) for row in found.values()}

    def _add_labels(self, answers: dict[int, Answers], results: Iterable[Any], further: Iterable[Any]) -> None:
        words, names, models = self._words, self._names, self._models
        for row in results:
            pairs = zip(row[_LABELS], row[_SCORES], strict=True)
            answer, name = answers[row[0]], names[row[1]]
            answer.models[name] = models[row[1]]
            if best := [(words[label], score) for label, score in pairs if label is not None]:
                answer.labels[name] = best
        for image_id, model_id, label, score in further:
            answers[image_id].labels[names[model_id]].append((words[label], score))

    def _add_masks(self, answers: dict[int, Answers], masks: Iterable[Any]) -> None:
        words = self._words
        made = sorted(masks, key=lambda row: (self._order[row.model_id], -row.area_share, words[row.label_id]))
        for row in made:
            found = Mask(
                label=words[row.label_id],
                rle=row.rle,
                height=row.height,
                width=row.width,
                area_share=row.area_share,
                box=(row.box_left, row.box_top, row.box_right, row.box_bottom),
                score=row.score,
            )
            answers[row.image_id].masks.setdefault(self._names[row.model_id], []).append(found)


def _of_images(columns: Columns) -> Select[Any]:
    of_images = any_of(columns[0], "images")
    return select(*columns).where(of_images, any_of(columns[0].table.c.model_id, "models"))
