"""The results of one model alone, for formats that have one dataset per model."""

from collections.abc import Iterator
from dataclasses import replace

from producer.output.image_result import ImageResult
from producer.output.selection.result_set import ResultSet


def of_one_model(about: ResultSet, name: str) -> ResultSet:
    """Return the images that the model of that name tagged, with its answers alone."""

    def read() -> Iterator[ImageResult]:
        for found in about:
            if name in found.models:
                yield replace(
                    found,
                    labels={name: found.labels[name]} if name in found.labels else {},
                    masks={name: found.masks[name]} if name in found.masks else {},
                    models={name: found.models[name]},
                )

    models = tuple(one for one in about.models if one[0] == name)
    return ResultSet(models, read, runs=about.runs, find_columns=lambda: about.extra_columns)
