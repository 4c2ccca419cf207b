"""Write results as a dataset for Hugging Face's `datasets`, one configuration per model. No images are copied."""

import json
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import islice
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from producer.output.extra_columns import ExtraColumn, titles, typed
from producer.output.full_size_masks import full_size_masks
from producer.output.image_result import ImageResult
from producer.output.selection.result_set import ResultSet
from producer.output.writers.arrow_batches import KINDS, LABEL, RLE
from producer.output.writers.base import Folder, WriteOptions, image_location
from producer.output.writers.mask_png_writer import safe_folder
from producer.output.writers.one_model import of_one_model
from producer.output.writers.shards import write_shards
from tagmill.extra import parse_extra
from tagmill.registry.models import Model
from tagmill.tasks.base import task_named

#: images of a file and of a row group
_FILE, _GROUP = 1_000_000, 1000

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_OBJECTS = pa.struct(
    [
        *(("bbox", pa.list_(pa.list_(pa.int32()))), ("category", pa.list_(pa.int64())), ("area", pa.list_(pa.int64()))),
        *(("score", pa.list_(pa.float64())), ("segmentation", pa.list_(RLE))),
    ]
)
_FACTS = {"image": _IMAGE, "image_key": pa.string(), "run": pa.int32(), "sha256": pa.string()}
_CLASSIFIED = {"label": pa.int64(), "score": pa.float64(), "labels": pa.list_(LABEL)}
_SEGMENTED = {"objects": _OBJECTS}


def write_hf(about: ResultSet, folder: Folder, options: WriteOptions) -> int:
    """Write data/MODEL/train-00000.parquet and so on, and README.md, which lists the configurations.

    Return the number of images, each as often as a model tagged it.
    """
    configurations, count = [], 0
    for name, model in dict(about.models).items():
        place, write = f"data/{safe_folder(name)}", partial(_write_file, model)
        configurations.append({"config_name": safe_folder(name), "data_files": f"{place}/train-*.parquet"})
        count += write_shards(
            of_one_model(about, name), write, folder, place + "/train-{number}.parquet", _FILE, options
        )
    with folder.open("README.md") as out:
        # JSON is YAML, too.
        out.write(f"---\nconfigs: {json.dumps(configurations)}\n---\n\nTagmill results, {about.title}\n".encode())
    return count


def _write_file(
    model: Model, results: Iterable[ImageResult], about: ResultSet, out: BinaryIO, options: WriteOptions
) -> int:
    gives_masks = task_named(model.task).gives_masks
    fields = _FACTS | (_SEGMENTED if gives_masks else _CLASSIFIED)
    named = titles(about.extra_columns, fields)
    fields |= {named[column.name]: KINDS[column.kind] for column in about.extra_columns}
    features = {name: _feature(kind) for name, kind in fields.items()} | {"image": {"_type": "Image"}}
    names = {"names": list(model.labels), "_type": "ClassLabel"}
    if gives_masks:
        features["objects"]["category"] = [names]
    else:
        features["label"] = names
    schema = pa.schema(fields.items(), {"huggingface": json.dumps({"info": {"features": features}})})
    results, count = iter(results), 0
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        while images := list(islice(results, _GROUP)):
            rows = [_row(found, model, options) | _further(found, about.extra_columns, named) for found in images]
            writer.write_table(pa.Table.from_pylist(rows, schema))
            count += len(images)
    return count


def _feature(kind: pa.DataType) -> Any:
    """Return the feature of `datasets` for a type of Arrow."""
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    if pa.types.is_list(kind):
        return [_feature(kind.value_type)]
    return {"dtype": {"double": "float64"}.get(str(kind), str(kind)), "_type": "Value"}


def _row(found: ImageResult, model: Model, options: WriteOptions) -> dict[str, Any]:
    row = {
        "image": {"bytes": None, "path": image_location(found.uri, options)},
        "image_key": found.image_key,
        "run": found.run_id,
        "sha256": found.sha256,
    }
    if task_named(model.task).gives_masks:
        return row | {"objects": _objects(found, model)}
    best = next(iter(found.labels.values()), [])
    label, score = best[0] if best else (None, None)
    return row | {
        "label": None if label is None else model.labels.index(label),
        "score": score,
        "labels": [{"label": label, "score": score} for label, score in best],
    }


def _objects(found: ImageResult, model: Model) -> dict[str, list[Any]]:
    (name,) = found.models
    masks = [mask for mask in full_size_masks(found, name) if mask.area]
    return {
        "bbox": [mask.box for mask in masks],
        "category": [model.labels.index(mask.label) for mask in masks],
        "area": [mask.area for mask in masks],
        "score": [mask.score for mask in masks],
        "segmentation": [{"size": [mask.height, mask.width], "counts": mask.rle} for mask in masks],
    }


def _further(found: ImageResult, columns: Iterable[ExtraColumn], named: Mapping[str, str]) -> dict[str, Any]:
    values = parse_extra(found.extra)
    return {named[column.name]: typed(values.get(column.name), column.kind) for column in columns}
