"""What workers of schema 0007 and 0008 do in SQL, in the statements of that version: claim, renew, complete, reap.

The statements were recorded from the code of commit 06db74b. They name tables, columns and conditions as that code
does; the sums of crashes are left out. The databases have their own words for the time and for lists.
"""

import json
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Engine, text

_NOW = {
    "postgresql": "extract(epoch from clock_timestamp())::double precision",
    "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
}
_CLAIM = """
UPDATE batch SET status = 'running', attempts = batch.attempts + 1, owner = :token, lease_until = {now} + 30,
    started_at = {now}
WHERE batch.id IN (
    SELECT batch.id FROM batch WHERE batch.id = :batch AND batch.run_id + 0 = :run AND batch.status = 'queued'
      AND (batch.not_before IS NULL OR batch.not_before <= (SELECT {now}))
      AND EXISTS (SELECT run.id FROM run WHERE run.id = :run AND run.state = 'open' AND run.queue = :queue){locked})
RETURNING attempts, crashes, waits, positions, first_position, last_position
"""
_ENTRIES = """
SELECT entry.position, entry.uri, entry.image_key FROM entry
WHERE entry.run_id = :run AND entry.position BETWEEN :first AND :last ORDER BY entry.position
"""
_PINNED = """
SELECT model.id, model.name, model.sha256, model.name_id, model.version, run.parameters FROM model
JOIN run_model ON run_model.model_id = model.id JOIN run ON run.id = run_model.run_id WHERE run.id = :run
"""
_RENEW = """
UPDATE batch SET lease_until = {now} + 30
WHERE batch.id IN (SELECT batch.id FROM batch WHERE batch.owner = :token AND batch.status = 'running')
"""
_FINISH = """
UPDATE batch SET status = 'done', owner = NULL, lease_until = NULL, finished_at = {now}, error = NULL, tagged = :images,
    inferences = :images, requests = 0, not_modified = 0, bytes_fetched = 0, cpu_seconds = 0, gpu_seconds = 0
WHERE batch.id = :batch AND batch.owner = :token RETURNING finished_at
"""
_IMAGE = """
INSERT INTO image_content (sha256, width, height, format, bytes) VALUES (:sha256, 8, 8, 'JPEG', 100) RETURNING id
"""
_RESULT = """
INSERT INTO result (image_id, model_id, batch_id, created_at, provider_id, worker_id, label_1, score_1)
VALUES (:image, :model, :batch, {now}, :name, :name, :name, 0.9)
"""
_OUTCOME = "INSERT INTO batch_outcome (batch_id, image_ids) VALUES (:batch, {images}) ON CONFLICT DO NOTHING"
_SHOW = """
INSERT INTO catalog_entry (image_key, position, image_id, run_id, name_id, place, model_id, changed_at)
VALUES (:key, :position, :image, :run, :model, 0, :model, 1)
ON CONFLICT (image_key, name_id, place) DO UPDATE SET
    run_id = excluded.run_id, position = excluded.position, image_id = excluded.image_id, model_id = excluded.model_id
WHERE catalog_entry.run_id <= excluded.run_id
"""
_TURN = """
UPDATE reaper SET next_look = {now} + 0.01 WHERE reaper.queue = :queue AND reaper.next_look <= {now}
"""
_EXPIRED = """
UPDATE batch SET status = 'queued', crashes = batch.crashes + 1, owner = NULL, lease_until = NULL, not_before = {now},
    published_at = NULL, error = 'its worker process died'
WHERE batch.id IN (SELECT batch.id FROM batch
                   WHERE batch.status = 'running' AND batch.queue = :queue AND batch.lease_until < (SELECT {now})
                   LIMIT 100)
"""
_LOST = """
UPDATE batch SET published_at = {now} WHERE batch.id IN (
    SELECT batch.id FROM batch WHERE batch.queue = :queue AND batch.priority = 6 AND batch.status = 'queued'
      AND batch.published_at < (SELECT {now}) - 10
      AND EXISTS (SELECT run.id FROM run WHERE run.id = batch.run_id AND run.state = 'open') LIMIT 100)
RETURNING run_id, id
"""
_QUEUE = "tagmill"


class OldWorker:
    """A worker of schema 0007 or 0008 on one engine."""

    def __init__(self, engine: Engine, run: int) -> None:
        self._engine = engine
        self._run = run
        self._now = _NOW[engine.dialect.name]

    def tag(self, batch: int) -> bool:
        """Claim a batch, renew its lease and complete it; return whether it was free."""
        token = {"token": f"worker-{batch}", "batch": batch, "run": self._run, "queue": _QUEUE}
        with self._engine.begin() as connection:
            row = self._execute(connection, _CLAIM, **token).one_or_none()
            if row is None:
                return False
            span = {"run": self._run, "first": row.first_position, "last": row.last_position}
            entries = self._execute(connection, _ENTRIES, **span).all()
        with self._engine.begin() as connection:
            (model,) = self._execute(connection, _PINNED, run=self._run).all()
        with self._engine.begin() as connection:
            self._execute(connection, _RENEW, token=token["token"])
        with self._engine.begin() as connection:
            self._execute(connection, _FINISH, images=len(entries), batch=batch, token=token["token"]).one()
            images = [self._image(connection, entry, batch, model.id) for entry in entries]
            self._execute(connection, _OUTCOME, batch=batch, images=self._list(images))
            for entry, image in zip(entries, images, strict=True):
                shown = {"key": entry.image_key, "position": entry.position, "image": image, "model": model.id}
                self._execute(connection, _SHOW, run=self._run, **shown)
        return True

    def reap(self) -> None:
        """Look for lost work."""
        for statement in (_TURN, _EXPIRED, _LOST):
            with self._engine.begin() as connection:
                self._execute(connection, statement, queue=_QUEUE)

    def _image(self, connection: Connection, entry: Any, batch: int, model: int) -> int:
        content = sha256(entry.uri.encode()).digest()
        image = int(self._execute(connection, _IMAGE, sha256=content).scalar_one())
        self._execute(connection, _RESULT, image=image, model=model, batch=batch, name=1)
        return image

    def _list(self, images: list[int]) -> Any:
        return images if self._engine.dialect.name == "postgresql" else json.dumps(images)

    def _execute(self, connection: Connection, statement: str, **values: Any) -> Any:
        locked = " FOR UPDATE SKIP LOCKED" if self._engine.dialect.name == "postgresql" else ""
        return connection.execute(text(statement.format(now=self._now, locked=locked, images=":images")), values)


def fill(engine: Engine, batches: int) -> int:
    """Write a run of that many batches of two entries, as a producer of schema 0007 or 0008 does; return its id."""
    now = _NOW[engine.dialect.name]
    with engine.begin() as connection:
        for table in ("label_name", "provider", "worker"):
            connection.execute(text(f"INSERT INTO {table} (name) VALUES ('red')"))
        columns = "sha256, name, name_id, version, task, labels, spec, metrics, stage, created_at"
        values = ":sha256, 'm', 1, 1, 'classify', '[\"red\"]', '{}', '{}', 'candidate', 0"
        connection.execute(text(f"INSERT INTO model ({columns}) VALUES ({values})"), {"sha256": bytes(32)})
        run = (
            "INSERT INTO run (source, parameters, queue, state, created_at) "
            f"VALUES ('old', '{{\"batch_size\": 2, \"roots\": []}}', '{_QUEUE}', 'open', {now}) RETURNING id"
        )
        run_id = int(connection.execute(text(run)).scalar_one())
        connection.execute(text("INSERT INTO run_model (run_id, model_id) VALUES (:run, 1)"), {"run": run_id})
        entry = "INSERT INTO entry (run_id, position, image_key, uri) VALUES (:run, :at, :key, :uri)"
        rows = [{"run": run_id, "at": at, "key": f"key-{at}", "uri": f"/p/{at}.jpg"} for at in range(2 * batches)]
        connection.execute(text(entry), rows)
        columns = "run_id, seq, queue, status, attempts, first_position, last_position, images, published_at"
        values = f":run, :seq, '{_QUEUE}', 'queued', 0, :first, :last, 2, {now}"
        batch = f"INSERT INTO batch ({columns}) VALUES ({values})"
        spans = [{"run": run_id, "seq": seq, "first": 2 * seq, "last": 2 * seq + 1} for seq in range(batches)]
        connection.execute(text(batch), spans)
    return run_id
