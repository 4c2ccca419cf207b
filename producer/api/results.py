"""Read results, as `tagmill results` does: image by image, as Arrow, or as files."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from producer.api.database import database, one_of
from producer.needs_pyarrow import needs_pyarrow
from producer.output.destinations.write import write_results
from producer.output.formats import WRITERS, Format
from producer.output.image_result import ImageResult
from producer.output.selection.query import ResultQuery
from producer.output.selection.result_set import ResultSet, select_results
from producer.output.writers.base import WriteOptions
from tagmill.where import Where

if TYPE_CHECKING:
    import pyarrow as pa


class Results:
    """Results in a fixed order. Each iteration reads them from SQL again, in flat memory."""

    def __init__(self, query: ResultQuery) -> None:
        """Raise InputError for an unknown run or model."""
        self._query = query
        with self._opened() as found:
            #: the names of the models, as in `ImageResult.labels` and `masks`
            self.models = tuple(name for name, _ in found.models)

    def __iter__(self) -> Iterator[ImageResult]:
        with self._opened() as found:
            yield from found

    def to_arrow(self) -> "pa.Table":
        """Return all results as one Arrow table: the columns of `--format parquet`, a row per image and model."""
        return self.arrow_reader().read_all()

    def arrow_reader(self) -> "pa.RecordBatchReader":
        """Return a reader of the same rows in record batches, in flat memory, which DuckDB and Polars take.

        Raise ConfigurationError if pyarrow, the extra `parquet`, is not installed.
        """
        with needs_pyarrow("Arrow"):
            import pyarrow as pa

            from producer.output.writers.arrow_batches import arrow_batches, schema_of

        def batches() -> Iterator[pa.RecordBatch]:
            with self._opened() as found:
                yield from arrow_batches(found, columns)

        with self._opened() as found:
            columns = found.extra_columns
        return pa.RecordBatchReader.from_batches(schema_of(columns), batches())

    def write(
        self,
        output: str | os.PathLike[str],
        format: str = Format.CSV.value,  # noqa: A002 - the name of the option
        shard_rows: int | None = None,
    ) -> int:
        """Write a file, a folder or a prefix of an object store; return the number of images.

        A folder or prefix ends in a slash. `format` and `shard_rows` are those of `tagmill results`. What was there
        stays until all is written.
        """
        writer = WRITERS[Format(one_of("format", format, [found.value for found in Format]))]
        with self._opened() as found:
            return write_results(found, writer, os.fspath(output), WriteOptions(), shard_rows)

    @contextmanager
    def _opened(self) -> Iterator[ResultSet]:
        with database() as engine:
            yield select_results(engine, self._query)


def results(
    *runs: int,
    models: Sequence[str] = (),
    labels: Sequence[str] = (),
    where: Sequence[str] = (),
    since: str | None = None,
    min_score: float | None = None,
    thresholds: bool = False,
    failed: bool = False,
    full_urls: bool = False,
) -> Results:
    """Return the results of runs, in the order of their manifests; without runs those of the catalog, by image_key.

    The arguments are the options of `tagmill results`. Raise InputError for an unknown run or model.
    """
    query = ResultQuery(
        runs=runs,
        models=tuple(models),
        labels=tuple(labels),
        where=Where.parse(where),
        since=since,
        min_score=min_score,
        thresholds=thresholds,
        failed=failed,
        full_urls=full_urls,
    )
    return Results(query)
