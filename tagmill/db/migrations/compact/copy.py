"""Copy chosen rows of the old tables into the new ones. Each function may be called again for the same rows.

The statements look single rows up in scalar subqueries: whatever PostgreSQL knows of tables that are just being filled,
it then uses their indexes.
"""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, CursorResult, text

from tagmill.db import rle_code
from tagmill.db.bulk import insert_rows
from tagmill.db.migrations.compact.chosen import AnyOf, Chosen
from tagmill.db.migrations.compact.tables import new_tables

_RANKS = range(1, 6)
_MASK = (
    *("image_id", "model_id", "label_id", "rle", "height", "width"),
    *("area_share", "box_left", "box_top", "box_right", "box_bottom", "score"),
)

_MODELS = """
INSERT INTO upgrade_model (id, sha256, name, name_id, version, task, labels, spec, metrics, stage, created_at)
SELECT numbered.id, numbered.sha256, numbered.name,
    coalesce((SELECT min(earlier.id) FROM upgrade_model AS earlier WHERE earlier.name = numbered.name),
             min(numbered.id) OVER (PARTITION BY numbered.name)),
    version, task, labels, spec, metrics, stage, created_at
FROM (
    SELECT (SELECT coalesce(max(id), 0) FROM upgrade_model) + row_number() OVER (ORDER BY created_at, name, version)
        AS id, {hash} AS sha256, name, version, task, labels, spec, metrics, stage, created_at
    FROM model WHERE NOT EXISTS (SELECT 1 FROM upgrade_model AS known WHERE known.sha256 = {hash})
) AS numbered
"""
_RUNS = """
INSERT INTO upgrade_run (id, source, parameters, queue, state, created_at)
SELECT id, source, parameters, queue, state, created_at FROM run WHERE {chosen}
ON CONFLICT (id) DO UPDATE SET queue = excluded.queue, state = excluded.state
"""
_RUN_MODELS = """
INSERT INTO upgrade_run_model (run_id, model_id)
SELECT run_model.run_id, upgrade_model.id
FROM run_model JOIN upgrade_model ON upgrade_model.sha256 = {hash}
WHERE {chosen} ORDER BY 1, 2
ON CONFLICT DO NOTHING
"""
_QUEUES = """
UPDATE upgrade_batch SET queue = (SELECT run.queue FROM run WHERE run.id = upgrade_batch.run_id)
WHERE {chosen} AND queue <> (SELECT run.queue FROM run WHERE run.id = upgrade_batch.run_id)
"""

_NAMES_OF_LABELS = """
INSERT INTO label_name (name)
SELECT label FROM label WHERE {of_labels} UNION SELECT label FROM mask WHERE {of_masks}
EXCEPT SELECT name FROM label_name ORDER BY 1
"""
_NAMES = """
INSERT INTO {table} (name) SELECT {table} FROM inference WHERE {chosen} EXCEPT SELECT name FROM {table} ORDER BY 1
"""
#: in the order of their results, so that the rows of a run are beside each other
_IMAGES_OF_RESULTS = """
INSERT INTO image_content (bytes, width, height, format, sha256)
SELECT image.bytes, image.width, image.height, image.format, {hash}
FROM (SELECT image_sha256, min(id) AS first FROM inference WHERE {chosen} GROUP BY image_sha256) AS found
JOIN image ON image.sha256 = found.image_sha256
WHERE {image_id} IS NULL ORDER BY found.first
"""
_IMAGES = """
INSERT INTO image_content (bytes, width, height, format, sha256)
SELECT bytes, width, height, format, {hash} FROM image WHERE {chosen} AND {image_id} IS NULL ORDER BY image.sha256
"""
_RESULTS = """
INSERT INTO result (image_id, model_id, provider_id, batch_id, created_at, worker_id, {labels}, {scores})
SELECT {image_id}, upgrade_model.id, provider.id, inference.batch_id, inference.created_at, worker.id,
    {labels}, {scores}
FROM inference
JOIN upgrade_model ON upgrade_model.sha256 = {hash}
JOIN provider ON provider.name = inference.provider
JOIN worker ON worker.name = inference.worker
LEFT JOIN (
    SELECT label.inference_id, {pivot} FROM label JOIN label_name ON label_name.name = label.label
    WHERE {of_labels} GROUP BY label.inference_id
) AS best ON best.inference_id = inference.id
WHERE {chosen} ORDER BY 1, 2
"""
_FURTHER_LABELS = """
INSERT INTO further_label (image_id, model_id, rank, label_id, score)
SELECT {image_id}, upgrade_model.id, label.rank, label_name.id, label.score
FROM label
JOIN inference ON inference.id = label.inference_id
JOIN upgrade_model ON upgrade_model.sha256 = {hash}
JOIN label_name ON label_name.name = label.label
WHERE label.rank > 5 AND {of_labels} ORDER BY 1, 2, 3
"""
_MASKS = """
SELECT {image_id} AS image_id, upgrade_model.id AS model_id, label_name.id AS label_id, mask.rle, mask.height,
    mask.width, mask.area_share, mask.box_left, mask.box_top, mask.box_right, mask.box_bottom, mask.score
FROM mask
JOIN inference ON inference.id = mask.inference_id
JOIN upgrade_model ON upgrade_model.sha256 = {hash}
JOIN label_name ON label_name.name = mask.label
WHERE {of_masks} ORDER BY 1, 2, 3
"""

_FILES = """
INSERT INTO known_file (identity, image_id)
SELECT identity, image_id FROM (
    SELECT {half} AS identity, {image_id} AS image_id FROM file_seen WHERE {chosen}
) AS found WHERE image_id IS NOT NULL ORDER BY identity
ON CONFLICT DO NOTHING
"""

_ENTRIES = """
INSERT INTO entry (run_id, position, image_key, uri)
SELECT run_id, position, image_key, uri FROM run_image WHERE {chosen} ORDER BY run_id, position
ON CONFLICT DO NOTHING
"""
_BATCH_KEPT = (
    *("seq", "status", "attempts", "crashes", "owner", "lease_until", "not_before", "published_at", "started_at"),
    *("finished_at", "error", "images", "tagged", "inferences"),
)
_BATCH_NEW = ("run_id", "queue", "positions", "first_position", "last_position")
#: a batch whose entries were all moved to others ends before its first position
_BATCHES = """
INSERT INTO upgrade_batch (id, {kept}, {new})
SELECT batch.id, {old}, batch.run_id, run.queue,
    CASE WHEN held.images IS NULL THEN {none}
         WHEN held.last_position - held.first_position + 1 = held.images THEN NULL ELSE held.positions END,
    coalesce(held.first_position, 0), coalesce(held.last_position, -1)
FROM batch
JOIN run ON run.id = batch.run_id
LEFT JOIN (
    SELECT batch_id, count(*) AS images, min(position) AS first_position, max(position) AS last_position,
        {positions} AS positions
    FROM {in_order} GROUP BY batch_id
) AS held ON held.batch_id = batch.id
WHERE {chosen} ORDER BY batch.id
ON CONFLICT (id) DO UPDATE SET {changes}
"""
_OLD_OUTCOMES = "DELETE FROM batch_outcome WHERE {chosen}"
_OUTCOMES = """
INSERT INTO batch_outcome (batch_id, image_ids)
SELECT batch.id, coalesce({image_ids}, {none}) FROM batch WHERE {chosen} AND status = 'done' ORDER BY batch.id
"""
_OLD_FAILURES = """
DELETE FROM image_failure
WHERE (run_id, position) IN (SELECT run_id, position FROM run_image WHERE {chosen} AND status <> 'failed')
"""
_FAILURES = """
INSERT INTO image_failure (run_id, position, batch_id, error_code, error_detail)
SELECT run_id, position, batch_id, error_code, error_detail FROM run_image WHERE {chosen} AND status = 'failed'
ORDER BY run_id, position
ON CONFLICT (run_id, position) DO UPDATE
SET batch_id = excluded.batch_id, error_code = excluded.error_code, error_detail = excluded.error_detail
"""
_OLD_COUNTS = """
DELETE FROM upgrade_batch_failure WHERE (run_id, batch_id) IN (SELECT run_id, id FROM batch WHERE {chosen})
"""
_COUNTS = """
INSERT INTO upgrade_batch_failure (run_id, batch_id, error_code, images)
SELECT failure.run_id, failure.batch_id, failure.error_code, failure.images
FROM batch JOIN batch_failure AS failure ON failure.run_id = batch.run_id AND failure.batch_id = batch.id
WHERE {chosen} ORDER BY 1, 2, 3
"""
_TAGGED_KEYS = "SELECT DISTINCT image_key FROM run_image WHERE {chosen} AND status = 'tagged' ORDER BY image_key"

_OLD_CATALOG = "DELETE FROM catalog_entry WHERE {chosen}"
#: for each key and name of a model the newest run that tagged the key, with all versions of the name in that run
_CATALOG = """
INSERT INTO catalog_entry (image_key, name_id, place, run_id, position, image_id, model_id, changed_at)
SELECT image_key, name_id, place, run_id, position, image_id, model_id, coalesce({changed_at}, 0)
FROM (
    SELECT run_image.image_key, pinned.name_id, pinned.place, run_image.run_id, run_image.position, pinned.model_id,
        {image_id} AS image_id,
        rank() OVER (PARTITION BY run_image.image_key, pinned.name_id ORDER BY run_image.run_id DESC) AS age
    FROM run_image
    JOIN (
        SELECT chosen.run_id, named.name_id, named.id AS model_id, row_number()
            OVER (PARTITION BY chosen.run_id, named.name_id ORDER BY named.version DESC) - 1 AS place
        FROM upgrade_run_model AS chosen JOIN upgrade_model AS named ON named.id = chosen.model_id
    ) AS pinned ON pinned.run_id = run_image.run_id
    WHERE run_image.status = 'tagged' AND {chosen}
) AS found WHERE age = 1 AND image_id IS NOT NULL ORDER BY image_key, name_id, place
ON CONFLICT DO NOTHING
"""


class Copier:
    """Copies on one connection, in its transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._dialect = connection.dialect.name
        self._postgresql = self._dialect == "postgresql"
        self._none = "'{}'" if self._postgresql else "'[]'"

    def models(self) -> None:
        """Copy the models that are new."""
        self._run(_MODELS, hash=self._hash("model.sha256"))

    def runs(self, chosen: Chosen) -> None:
        """Copy runs with their models and their queues."""
        self.models()
        self._run(_RUNS, chosen, chosen="run.id")
        self._run(_RUN_MODELS, chosen, chosen="run_model.run_id", hash=self._hash("run_model.model_sha256"))
        self._run(_QUEUES, chosen, chosen="upgrade_batch.run_id")

    def results(self, chosen: Chosen) -> None:
        """Copy inferences as results, with their images, labels and masks. Only once: masks have no key."""
        self.models()
        of = {"of_labels": "label.inference_id", "of_masks": "mask.inference_id", "chosen": "inference.id"}
        model, image_id = self._hash("inference.model_sha256"), self._image_id("inference.image_sha256")
        self._run(_NAMES_OF_LABELS, chosen, **of)
        for table in ("provider", "worker"):
            self._run(_NAMES, chosen, table=table, **of)
        sha256, known = self._hash("image.sha256"), self._image_id("image.sha256")
        self._run(_IMAGES_OF_RESULTS, chosen, hash=sha256, image_id=known, **of)
        columns = {name: ", ".join(f"{name[:-1]}_{rank}" for rank in _RANKS) for name in ("labels", "scores")}
        values = {"label": "label_name.id", "score": "label.score"}
        pivot = ", ".join(
            f"max(CASE label.rank WHEN {rank} THEN {value} END) AS {name}_{rank}"
            for name, value in values.items()
            for rank in _RANKS
        )
        self._run(_RESULTS, chosen, hash=model, image_id=image_id, pivot=pivot, **columns, **of)
        self._run(_FURTHER_LABELS, chosen, hash=model, image_id=image_id, **of)
        if self._postgresql:
            rows = self._run(_MASKS, chosen, hash=model, image_id=image_id, **of)
            packed = [(*row[:3], rle_code.pack(row.rle), *row[4:]) for row in rows]
            insert_rows(self._connection, new_tables(self._dialect).tables["result_mask"], _MASK, packed)
        else:
            insert = f"INSERT INTO result_mask ({', '.join(_MASK)}) {_MASKS}"
            self._run(insert, chosen, hash=model, image_id=image_id, **of)

    def images(self, chosen: Chosen) -> None:
        """Copy the images that no result brought."""
        sha256, known = self._hash("image.sha256"), self._image_id("image.sha256")
        self._run(_IMAGES, chosen, chosen="image.sha256", hash=sha256, image_id=known)

    def files(self, chosen: Chosen) -> None:
        """Copy the known files."""
        half = "substr(file_seen.identity, 1, 32)"
        half = f"CAST({half} AS uuid)" if self._postgresql else f"tagmill_unhex({half})"
        self._run(_FILES, chosen, chosen="file_seen.identity", half=half, image_id=self._image_id("file_seen.sha256"))

    def batches(self, chosen: Chosen, *, again: bool) -> None:
        """Copy batches with their entries and outcomes. With `again`, some may have been copied before."""
        image_id = f"CASE WHEN run_image.status = 'tagged' THEN {self._image_id('run_image.sha256')} END"
        ordered = f"{image_id} AS image_id FROM run_image WHERE run_image.batch_id = batch.id"
        if self._postgresql:
            positions = "array_agg(position ORDER BY position)"
            image_ids = f"(SELECT array_agg(image_id ORDER BY position) FROM (SELECT position, {ordered}) AS found)"
            in_order = "run_image WHERE {batches}"
        else:
            positions = "json_group_array(position)"
            image_ids = f"(SELECT json_group_array(image_id) FROM (SELECT {ordered} ORDER BY position) AS found)"
            in_order = (
                "(SELECT batch_id, position FROM run_image WHERE {batches} ORDER BY batch_id, position) AS ordered"
            )
        of_images = {"chosen": "run_image.batch_id"}
        self._run(_ENTRIES, chosen, **of_images)
        self._run(
            _BATCHES.replace("{in_order}", in_order),
            chosen,
            chosen="batch.id",
            batches="run_image.batch_id",
            kept=", ".join(_BATCH_KEPT),
            old=", ".join(f"batch.{name}" for name in _BATCH_KEPT),
            new=", ".join(_BATCH_NEW),
            changes=", ".join(f"{name} = excluded.{name}" for name in (*_BATCH_KEPT, *_BATCH_NEW)),
            positions=positions,
            none=self._none,
        )
        if again:
            self._run(_OLD_OUTCOMES, chosen, chosen="batch_outcome.batch_id")
            self._run(_OLD_FAILURES, chosen, **of_images)
            self._run(_OLD_COUNTS, chosen, chosen="batch.id")
        self._run(_OUTCOMES, chosen, chosen="batch.id", image_ids=image_ids, none=self._none)
        self._run(_FAILURES, chosen, **of_images)
        self._run(_COUNTS, chosen, chosen="batch.id")
        if again:
            keys = self._run(_TAGGED_KEYS, chosen, **of_images).scalars().all()
            if keys:
                self._run(_OLD_CATALOG, AnyOf(keys), chosen="catalog_entry.image_key")
                self.catalog(AnyOf(keys))

    def catalog(self, chosen: Chosen) -> None:
        """Fill in what the catalog shows for keys that it does not have yet."""
        # In whole seconds, rounded up.
        second = "CAST(ceil(created_at) AS bigint)"
        if not self._postgresql:
            second = "CAST(created_at AS INTEGER) + (created_at > CAST(created_at AS INTEGER))"
        of_result = "result.image_id = found.image_id AND result.model_id = found.model_id"
        changed_at = f"(SELECT {second} FROM result WHERE {of_result})"
        image_id = self._image_id("run_image.sha256")
        self._run(_CATALOG, chosen, chosen="run_image.image_key", image_id=image_id, changed_at=changed_at)

    def forget_entries(self, places: Sequence[tuple[int, int]]) -> None:
        """Delete entries, (run id, position), that somebody deleted from the old table."""
        rows = [{"run": run, "position": position} for run, position in places]
        for table in ("entry", "image_failure"):
            self._connection.execute(text(f"DELETE FROM {table} WHERE run_id = :run AND position = :position"), rows)

    def delete_changes(self, chosen: Chosen) -> None:
        """Delete rows of the log."""
        self._run("DELETE FROM upgrade_change WHERE {chosen}", chosen, chosen="upgrade_change.id")

    def _run(self, statement: str, chosen: Chosen | None = None, /, **words: str) -> CursorResult[Any]:
        """Run a statement. Those `words` that name the column of a key become the condition on it."""
        if chosen is None:
            return self._connection.execute(text(statement.format(**words)))
        for name in ("chosen", "of_labels", "of_masks", "batches"):
            if name in words:
                words[name] = chosen.condition(words[name], self._dialect)
        parameters = chosen.parameters
        if self._dialect == "sqlite" and isinstance(chosen, AnyOf):
            parameters = {"keys": json.dumps(parameters["keys"])}
        return self._connection.execute(text(statement.format(**words)), parameters)

    def _hash(self, column: str) -> str:
        return f"decode({column}, 'hex')" if self._postgresql else f"tagmill_unhex({column})"

    def _image_id(self, column: str) -> str:
        same = f"image_content.sha256 = tagmill_unhex({column})"
        if self._postgresql:
            head = "(encode(substr(image_content.sha256, 1, 16), 'hex')::uuid)"
            same = f"{head} = CAST(substr({column}, 1, 32) AS uuid)"
        return f"(SELECT image_content.id FROM image_content WHERE {same})"
