"""Results as Arrow record batches: one row per image and model, with the same columns whatever the models."""

from collections.abc import Iterable, Iterator
from itertools import accumulate, chain, islice
from typing import Any

import pyarrow as pa

from producer.output.extra_columns import ExtraColumn, Kind, titles, typed
from producer.output.full_size_masks import FullSizeMask, full_size_masks
from producer.output.image_result import ImageResult
from tagmill.extra import parse_extra

#: images of a batch
IMAGES = 4096

LABEL = pa.struct([("label", pa.string()), ("score", pa.float64())])
RLE = pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())])
MASK = pa.struct(
    [
        *(("label", pa.string()), ("score", pa.float64()), ("area_share", pa.float64())),
        *(("bbox", pa.list_(pa.int32())), ("rle", RLE)),
    ]
)
#: of an image that failed, the columns from `model` on are null; of a segmenter, `label` and `score`
FIELDS = (
    *(("image_key", pa.string()), ("uri", pa.string()), ("run", pa.int32()), ("status", pa.string())),
    *(("error_code", pa.string()), ("error_detail", pa.string()), ("sha256", pa.string())),
    *(("width", pa.int32()), ("height", pa.int32()), ("model", pa.string()), ("model_version", pa.int32())),
    *(("label", pa.string()), ("score", pa.float64()), ("labels", pa.list_(LABEL)), ("masks", pa.list_(MASK))),
)
#: of an image, the first of them
_FACTS = ("image_key", "uri", "run_id", "status", "error_code", "error_detail", "sha256", "width", "height")
KINDS = {Kind.BOOLEAN: pa.bool_(), Kind.INTEGER: pa.int64(), Kind.NUMBER: pa.float64(), Kind.TEXT: pa.string()}


def schema_of(columns: Iterable[ExtraColumn]) -> pa.Schema:
    """Return the schema of results with these further columns of manifests."""
    columns = tuple(columns)
    titled = titles(columns, [name for name, _ in FIELDS])
    return pa.schema([*FIELDS, *((titled[column.name], KINDS[column.kind]) for column in columns)])


def arrow_batches(results: Iterable[ImageResult], columns: tuple[ExtraColumn, ...]) -> Iterator[pa.RecordBatch]:
    """Yield the results as record batches of `schema_of(columns)`, in their order."""
    schema, results = schema_of(columns), iter(results)
    while images := list(islice(results, IMAGES)):
        yield _batch(images, columns, schema)


def _batch(images: Iterable[ImageResult], columns: tuple[ExtraColumn, ...], schema: pa.Schema) -> pa.RecordBatch:
    # By column, with few objects for the garbage collector: this takes half the time of making rows.
    rows: list[ImageResult] = []
    names: list[str] = []
    for found in images:
        for name in found.models or ("",):
            rows.append(found)
            names.append(name)
    models = [found.models.get(name) for found, name in zip(rows, names, strict=True)]
    labels = [found.labels.get(name, []) for found, name in zip(rows, names, strict=True)]
    masks = [full_size_masks(found, name) for found, name in zip(rows, names, strict=True)]
    plain = [
        *([getattr(found, fact) for found in rows] for fact in _FACTS),
        [model and model.name for model in models],
        [model and model.version for model in models],
        [best[0][0] if best else None for best in labels],
        [best[0][1] if best else None for best in labels],
    ]
    arrays = [pa.array(values, kind) for values, (_, kind) in zip(plain, FIELDS, strict=False)]
    arrays += _label_lists(labels), _mask_lists(masks)
    extra = [parse_extra(found.extra) for found in rows] if columns else []
    for column, field in zip(columns, list(schema)[len(FIELDS) :], strict=True):
        arrays.append(pa.array([typed(values.get(column.name), column.kind) for values in extra], field.type))
    return pa.record_batch(arrays, schema=schema)


def _label_lists(labels: list[list[tuple[str, float]]]) -> pa.Array:
    items = [
        pa.array([label for best in labels for label, _ in best], pa.string()),
        pa.array([score for best in labels for _, score in best], pa.float64()),
    ]
    return pa.ListArray.from_arrays(_offsets(labels), pa.StructArray.from_arrays(items, fields=list(LABEL)))


def _mask_lists(masks: list[list[FullSizeMask]]) -> pa.Array:
    flat = list(chain.from_iterable(masks))
    rle = [pa.array([[mask.height, mask.width] for mask in flat], pa.list_(pa.int32()))]
    rle.append(pa.array([mask.rle for mask in flat], pa.string()))
    items = [
        pa.array([mask.label for mask in flat], pa.string()),
        pa.array([mask.score for mask in flat], pa.float64()),
        pa.array([mask.area_share for mask in flat], pa.float64()),
        pa.array([mask.box for mask in flat], pa.list_(pa.int32())),
        pa.StructArray.from_arrays(rle, fields=list(RLE)),
    ]
    return pa.ListArray.from_arrays(_offsets(masks), pa.StructArray.from_arrays(items, fields=list(MASK)))


def _offsets(lists: Iterable[list[Any]]) -> pa.Array:
    return pa.array([0, *accumulate(map(len, lists))], pa.int32())
