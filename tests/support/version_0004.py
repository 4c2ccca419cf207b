"""The version whose schema is 0004: its database, and the transactions of its workers and commands, as plain SQL."""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, text

from tagmill.db import schema

QUEUE = "tagmill"
MODELS = {"shirts@1": "1" * 64, "shirts@2": "2" * 64, "shapes@1": "3" * 64}

#: what both schemas must say, as statements for each: before and after the upgrade
SAME = {
    "catalog_labels": ("SELECT * FROM catalog_labels ORDER BY image_key, model, version, rank",) * 2,
    "catalog_masks": ("SELECT * FROM catalog_masks ORDER BY image_key, model, version, label",) * 2,
    "entries": (
        """SELECT run_id, position, image_key, uri, sha256, status, error_code, error_detail
           FROM run_image ORDER BY run_id, position""",
    )
    * 2,
    "runs": ("SELECT id, source, queue, state, created_at FROM run ORDER BY id",) * 2,
    "batches": (
        """SELECT id, run_id, seq, status, attempts, crashes, owner, lease_until, not_before, published_at, started_at,
           finished_at, error, images, tagged, inferences FROM batch ORDER BY id""",
    )
    * 2,
    "failures": ("SELECT run_id, batch_id, error_code, images FROM batch_failure ORDER BY 1, 2, 3",) * 2,
    "entries of batches": (
        "SELECT batch_id, position FROM run_image ORDER BY batch_id, position",
        """SELECT batch.id, entry.position FROM batch JOIN entry ON entry.run_id = batch.run_id
           AND entry.position BETWEEN batch.first_position AND batch.last_position
           AND (batch.positions IS NULL OR {in_positions}) WHERE batch.images > 0
           ORDER BY batch.id, entry.position""",
    ),
    "models": (
        "SELECT sha256, name, version, task, stage, created_at FROM model ORDER BY sha256",
        "SELECT {model_hex}, name, version, task, stage, created_at FROM model ORDER BY sha256",
    ),
    "models of runs": (
        "SELECT run_id, model_sha256 FROM run_model ORDER BY 1, 2",
        "SELECT run_id, {model_hex} FROM run_model JOIN model ON model.id = run_model.model_id ORDER BY 1, 2",
    ),
    "images": (
        "SELECT sha256, width, height, format, bytes FROM image ORDER BY sha256",
        "SELECT {image_hex}, width, height, format, bytes FROM image_content ORDER BY sha256",
    ),
    "results": (
        """SELECT image_sha256, model_sha256, batch_id, provider, worker, created_at FROM inference ORDER BY 1, 2""",
        """SELECT {image_hex}, {model_hex}, batch_id, provider.name, worker.name, result.created_at FROM result
           JOIN image_content ON image_content.id = image_id JOIN model ON model.id = model_id
           JOIN provider ON provider.id = provider_id JOIN worker ON worker.id = worker_id ORDER BY 1, 2""",
    ),
    "labels": (
        """SELECT image_sha256, model_sha256, rank, label, score FROM label
           JOIN inference ON inference.id = inference_id ORDER BY 1, 2, 3""",
        """SELECT {image_hex}, {model_hex}, rank, label_name.name, score FROM result_label
           JOIN image_content ON image_content.id = image_id JOIN model ON model.id = model_id
           JOIN label_name ON label_name.id = label_id ORDER BY 1, 2, 3""",
    ),
    "masks": (
        """SELECT image_sha256, model_sha256, label, {old_rle}, height, width, area_share, box_left, box_top, box_right,
           box_bottom, score FROM mask JOIN inference ON inference.id = inference_id ORDER BY 1, 2, 3""",
        """SELECT {image_hex}, {model_hex}, label_name.name, {new_rle}, result_mask.height, result_mask.width,
           area_share, box_left, box_top, box_right, box_bottom, score FROM result_mask
           JOIN image_content ON image_content.id = image_id JOIN model ON model.id = model_id
           JOIN label_name ON label_name.id = label_id ORDER BY 1, 2, 3""",
    ),
    "files": (
        "SELECT substr(identity, 1, 32), sha256 FROM file_seen ORDER BY 1",
        """SELECT {identity_hex}, {image_hex} FROM known_file
           JOIN image_content ON image_content.id = image_id ORDER BY 1""",
    ),
}


def migrate(engine: Engine, revision: str, direction: str = "upgrade") -> None:
    """Run the migrations up to a revision with Alembic alone."""
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        getattr(command, direction)(config, revision)


def state(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Return everything that the database says, in the same words for both schemas."""
    new = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one() > "0004"
    postgresql = connection.dialect.name == "postgresql"
    words = {
        "in_positions": "entry.position = ANY (batch.positions)"
        if postgresql
        else "entry.position IN (SELECT value FROM json_each(batch.positions))",
        "model_hex": "encode(model.sha256, 'hex')" if postgresql else "lower(hex(model.sha256))",
        "image_hex": "encode(image_content.sha256, 'hex')" if postgresql else "lower(hex(image_content.sha256))",
        "identity_hex": "replace(identity::text, '-', '')" if postgresql else "lower(hex(identity))",
        "old_rle": "rle",
        "new_rle": "tagmill_rle(rle)" if postgresql else "rle",
    }
    return {
        name: [tuple(row) for row in connection.exec_driver_sql(statements[new].format(**words))]
        for name, statements in SAME.items()
    }


def digest(words: str) -> str:
    """Return a sha256 in hexadecimal digits."""
    return hashlib.sha256(words.encode()).hexdigest()


class Version0004:
    """The ledger of that version. Each method is one transaction, with the statements in the order of the original."""

    def __init__(self, engine: Engine, seed: int = 0) -> None:
        self.engine = engine
        self._random = random.Random(seed)
        self._postgresql = engine.dialect.name == "postgresql"
        clock = "extract(epoch from clock_timestamp())::double precision"
        self._now = clock if self._postgresql else "((julianday('now') - 2440587.5) * 86400.0)"

    def register(self, title: str, stage: str = "candidate") -> None:
        """Register a model of `MODELS`."""
        name, _, version = title.partition("@")
        row = {"sha256": MODELS[title], "name": name, "version": int(version), "stage": stage}
        with self.engine.begin() as connection:
            self._do(
                connection,
                """INSERT INTO model (sha256, name, version, task, labels, spec, metrics, stage, created_at)
                   VALUES (:sha256, :name, :version, 'classify', :labels, :spec, '{}', :stage, {now})""",
                row | {"labels": json.dumps(["red", "blue"]), "spec": json.dumps({"background": None})},
            )

    def promote(self, title: str) -> None:
        """Put a model into production."""
        name, _, version = title.partition("@")
        with self.engine.begin() as connection:
            self._do(connection, "UPDATE model SET stage = 'candidate' WHERE name = :name", {"name": name})
            wanted = {"name": name, "version": int(version)}
            change = "UPDATE model SET stage = 'production' WHERE name = :name AND version = :version"
            self._do(connection, change, wanted)

    def submit(self, keys: Sequence[str], models: Sequence[str], batch_size: int = 3, *, publish: bool = True) -> int:
        """Create a run; return its id. Without `publish` its producer dies before it publishes the batches."""
        with self.engine.begin() as connection:
            run = self._one(
                connection,
                """INSERT INTO run (source, parameters, queue, state, created_at)
                   VALUES ('test', :parameters, :queue, 'open', {now}) RETURNING id""",
                {"parameters": json.dumps({"batch_size": batch_size, "roots": ["/pictures"]}), "queue": QUEUE},
            )
            for title in models:
                chosen = {"run": run, "model": MODELS[title]}
                self._do(connection, "INSERT INTO run_model (run_id, model_sha256) VALUES (:run, :model)", chosen)
            for seq, start in enumerate(range(0, len(keys), batch_size)):
                held = keys[start : start + batch_size]
                batch = self._new_batch(connection, run, seq, len(held))
                for position, key in enumerate(held, start):
                    self._do(
                        connection,
                        """INSERT INTO run_image (run_id, position, batch_id, image_key, uri, status)
                           VALUES (:run, :position, :batch, :key, :uri, 'pending')""",
                        {"run": run, "position": position, "batch": batch, "key": key, "uri": f"/pictures/{key}"},
                    )
        if publish:
            self.publish(run)
        return int(run)

    def publish(self, run: int) -> None:
        """Mark the queued batches of a run as published."""
        with self.engine.begin() as connection:
            change = "UPDATE batch SET published_at = {now} WHERE run_id = :run AND status = 'queued'"
            self._do(connection, change, {"run": run})

    def batches(self, run: int, status: str = "queued") -> list[int]:
        """Return the ids of the batches of a run with a status."""
        with self.engine.connect() as connection:
            wanted = "SELECT id FROM batch WHERE run_id = :run AND status = :status ORDER BY seq"
            return list(connection.execute(text(wanted), {"run": run, "status": status}).scalars())

    def claim(self, batch: int, token: str, lease: float = 30.0) -> list[tuple[int, str]] | None:
        """Claim a batch; return position and key of its pending images."""
        with self.engine.begin() as connection:
            taken = self._all(
                connection,
                """UPDATE batch SET status = 'running', attempts = attempts + 1, owner = :token,
                   lease_until = {now} + :lease, started_at = {now}
                   WHERE id = :batch AND status = 'queued' AND EXISTS
                   (SELECT 1 FROM run WHERE run.id = batch.run_id AND run.state = 'open') RETURNING run_id""",
                {"batch": batch, "token": token, "lease": lease},
            )
            if not taken:
                return None
            waiting = """SELECT position, image_key FROM run_image WHERE batch_id = :batch AND status = 'pending'
                         ORDER BY position"""
            return [tuple(row) for row in self._all(connection, waiting, {"batch": batch})]

    def renew(self, token: str) -> None:
        """Extend a lease."""
        with self.engine.begin() as connection:
            self._do(connection, "UPDATE batch SET lease_until = {now} + 30 WHERE owner = :token", {"token": token})

    def complete(self, batch: int, token: str, outcomes: Mapping[int, str]) -> bool:
        """Write a batch's outcomes: position -> the image's bytes, or "!CODE" if it failed."""
        with self.engine.begin() as connection:
            mine = {"batch": batch, "token": token}
            tagged = {position: words for position, words in outcomes.items() if not words.startswith("!")}
            finished = self._all(
                connection,
                """UPDATE batch SET status = 'done', owner = NULL, lease_until = NULL, error = NULL,
                   finished_at = {now}, tagged = :tagged WHERE id = :batch AND owner = :token
                   RETURNING run_id, finished_at""",
                mine | {"tagged": len(tagged)},
            )
            if not finished:
                return False
            run, now = finished[0]
            chosen = "SELECT model_sha256 FROM run_model WHERE run_id = :run ORDER BY 1"
            models = [row[0] for row in self._all(connection, chosen, {"run": run})]
            made = sum(
                self._infer(connection, batch, digest(words), model, now)
                for words in sorted(set(tagged.values()), key=digest)
                for model in models
            )
            for words in sorted(set(tagged.values()), key=digest):
                self._do(
                    connection,
                    "INSERT INTO file_seen (identity, sha256) VALUES (:file, :sha256) ON CONFLICT DO NOTHING",
                    {"file": digest(f"file {words}"), "sha256": digest(words)},
                )
            for position, words in outcomes.items():
                failed = words.startswith("!")
                self._do(
                    connection,
                    """UPDATE run_image SET status = :status, sha256 = :sha256, error_code = :code,
                       error_detail = :detail WHERE run_id = :run AND position = :position""",
                    {
                        "status": "failed" if failed else "tagged",
                        "sha256": None if failed else digest(words),
                        "code": words[1:] if failed else None,
                        "detail": "the reason" if failed else None,
                        "run": run,
                        "position": position,
                    },
                )
            self._count_failures(connection, run, batch)
            self._do(connection, "UPDATE batch SET inferences = :made WHERE id = :batch", mine | {"made": made})
        return True

    def work(self, run: int, token: str = "worker") -> None:
        """Claim and complete all queued batches of a run. A key that begins with bad fails; others are their bytes."""
        for batch in self.batches(run):
            found = self.claim(batch, token)
            if found is not None:
                self.complete(batch, token, {at: "!corrupt" if key.startswith("bad") else key for at, key in found})

    def release(self, batch: int, token: str) -> None:
        """Give a batch back after a failed attempt."""
        with self.engine.begin() as connection:
            self._do(
                connection,
                """UPDATE batch SET status = 'queued', owner = NULL, lease_until = NULL, not_before = {now} + 2,
                   published_at = NULL, error = 'BundleError: gone' WHERE id = :batch AND owner = :token""",
                {"batch": batch, "token": token},
            )

    def mark_dead(self, batch: int) -> None:
        """Give a queued batch up."""
        with self.engine.begin() as connection:
            dead = self._all(
                connection,
                """UPDATE batch SET status = 'dead', finished_at = {now} WHERE id = :batch AND status = 'queued'
                   RETURNING run_id""",
                {"batch": batch},
            )
            for (run,) in dead:
                self._do(
                    connection,
                    """UPDATE run_image SET status = 'failed', error_code = 'batch_dead', error_detail = 'gone'
                       WHERE batch_id = :batch AND status = 'pending'""",
                    {"batch": batch},
                )
                self._count_failures(connection, run, batch)

    def cancel(self, run: int) -> None:
        """Cancel the queued batches of a run."""
        with self.engine.begin() as connection:
            self._do(connection, "UPDATE run SET state = 'cancelled' WHERE id = :run", {"run": run})
            change = "UPDATE batch SET status = 'cancelled' WHERE run_id = :run AND status = 'queued'"
            self._do(connection, change, {"run": run})

    def retry(self, run: int, batch_size: int = 3, queue: str = QUEUE) -> None:
        """Move failed images, and those of cancelled batches, to new batches."""
        with self.engine.begin() as connection:
            wanted = """SELECT position, batch_id FROM run_image WHERE run_id = :run AND (status = 'failed' OR
                        (status = 'pending' AND batch_id IN (SELECT id FROM batch WHERE run_id = :run
                         AND status = 'cancelled'))) ORDER BY position"""
            moved = self._all(connection, wanted, {"run": run})
            change = "UPDATE run SET state = 'open', queue = :queue WHERE id = :run"
            self._do(connection, change, {"run": run, "queue": queue})
            seq = self._one(connection, "SELECT max(seq) FROM batch WHERE run_id = :run", {"run": run})
            for start in range(0, len(moved), batch_size):
                held, seq = moved[start : start + batch_size], seq + 1
                batch = self._new_batch(connection, run, seq, len(held))
                for position, _ in held:
                    self._do(
                        connection,
                        """UPDATE run_image SET batch_id = :batch, status = 'pending', sha256 = NULL, error_code = NULL,
                           error_detail = NULL WHERE run_id = :run AND position = :position""",
                        {"batch": batch, "run": run, "position": position},
                    )
            for batch in sorted({row[1] for row in moved}):
                left = """UPDATE batch SET images = (SELECT count(*) FROM run_image WHERE batch_id = batch.id)
                          WHERE id = :batch"""
                self._do(connection, left, {"batch": batch})
                self._do(connection, "DELETE FROM batch_failure WHERE batch_id = :batch", {"batch": batch})
                self._count_failures(connection, run, batch)

    def _new_batch(self, connection: Connection, run: int, seq: int, images: int) -> int:
        statement = """INSERT INTO batch (run_id, seq, status, attempts, images)
                       VALUES (:run, :seq, 'queued', 0, :images) RETURNING id"""
        return int(self._one(connection, statement, {"run": run, "seq": seq, "images": images}))

    def _count_failures(self, connection: Connection, run: int, batch: int) -> None:
        self._do(
            connection,
            """INSERT INTO batch_failure (run_id, batch_id, error_code, images)
               SELECT run_id, batch_id, error_code, count(*) FROM run_image
               WHERE run_id = :run AND batch_id = :batch AND status = 'failed' GROUP BY run_id, batch_id, error_code""",
            {"run": run, "batch": batch},
        )

    def _infer(self, connection: Connection, batch: int, sha256: str, model: str, now: float) -> int:
        """Insert the result of an image, unless there is one; return how many were inserted."""
        facts = random.Random(sha256 + model)
        self._do(
            connection,
            """INSERT INTO image (sha256, width, height, format, bytes)
               VALUES (:sha256, :width, 600, 'JPEG', 88000) ON CONFLICT DO NOTHING""",
            {"sha256": sha256, "width": int(sha256[:3], 16)},
        )
        made = self._all(
            connection,
            """INSERT INTO inference (image_sha256, model_sha256, batch_id, provider, worker, created_at)
               VALUES (:sha256, :model, :batch, :provider, :worker, :now) ON CONFLICT DO NOTHING RETURNING id""",
            {
                "sha256": sha256,
                "model": model,
                "batch": batch,
                "provider": facts.choice(["CPUExecutionProvider", "CUDAExecutionProvider"]),
                "worker": f"host:{facts.randrange(3)}",
                "now": now,
            },
        )
        for (inference,) in made:
            for rank in range(1, 1 + facts.choice([0, 1, 2, 5, 6, 8])):
                self._do(
                    connection,
                    "INSERT INTO label (inference_id, rank, label, score) VALUES (:id, :rank, :label, :score)",
                    {"id": inference, "rank": rank, "label": f"label {facts.randrange(30)}", "score": facts.random()},
                )
            for label in facts.sample(range(9), facts.choice([0, 0, 1, 3])):
                self._do(
                    connection,
                    """INSERT INTO mask (inference_id, label, rle, height, width, area_share, box_left, box_top,
                       box_right, box_bottom, score)
                       VALUES (:id, :label, :rle, 64, 48, :share, 0.5, 1, 2, 3.25, 0.75)""",
                    {
                        "id": inference,
                        "label": f"part {label}",
                        "rle": "".join(chr(facts.randrange(48, 112)) for _ in range(facts.randrange(40))),
                        "share": facts.random(),
                    },
                )
        return len(made)

    def _do(self, connection: Connection, statement: str, values: Mapping[str, Any]) -> None:
        connection.execute(text(statement.replace("{now}", self._now)), dict(values))

    def _all(self, connection: Connection, statement: str, values: Mapping[str, Any]) -> list[Any]:
        return list(connection.execute(text(statement.replace("{now}", self._now)), dict(values)).all())

    def _one(self, connection: Connection, statement: str, values: Mapping[str, Any]) -> Any:
        return self._all(connection, statement, values)[0][0]


def fill(engine: Engine) -> Version0004:
    """Fill a database of schema 0004 with rows of every kind; return its ledger."""
    old = Version0004(engine)
    for title in ("shirts@1", "shapes@1", "shirts@2"):
        old.register(title)
    old.promote("shirts@1")
    catalog = [f"sku-{number}" for number in range(12)]
    both = old.submit(catalog, ["shirts@1", "shirts@2"])  # two versions of a name in one run
    old.work(both)
    shapes = old.submit([*catalog[:7], "bad-1", "bad-2"], ["shapes@1", "shirts@1"])
    old.work(shapes)
    old.retry(shapes)
    newer = old.submit(catalog[2:9], ["shirts@2"], batch_size=2)  # a newer run for some of the keys
    old.work(newer)
    older = old.submit([*catalog[:4], "bad-3", "bad-4", "sku-x"], ["shirts@1"], batch_size=4)
    waiting = old.batches(older)
    found = old.claim(waiting[0], "one")
    assert found is not None
    old.complete(waiting[0], "one", {at: "!not_found" if at % 2 else f"other {key}" for at, key in found})
    old.mark_dead(waiting[1])
    emptied = old.submit(["bad-5", "bad-6", "bad-7"], ["shirts@1"])  # its batch fails as a whole, and is retried
    old.work(emptied)
    old.retry(emptied, batch_size=2)
    old.work(emptied)
    dead = old.submit(["sku-1", "sku-2"], ["shirts@2"], batch_size=2)
    old.mark_dead(old.batches(dead)[0])
    old.retry(dead, queue="other")
    stopped = old.submit(catalog, ["shirts@2"])
    old.claim(old.batches(stopped)[0], "two")
    old.cancel(stopped)
    again = old.submit(catalog[:5], ["shirts@2"], batch_size=2)
    old.cancel(again)
    old.retry(again)
    running = old.submit(catalog, ["shirts@1"])
    old.claim(old.batches(running)[0], "three")
    released = old.batches(running)[0]
    old.claim(released, "four")
    old.release(released, "four")
    old.submit(catalog[:4], ["shapes@1"], publish=False)  # its producer died
    with engine.begin() as connection:
        # An image without a result, and a file whose image is not known.
        values = "('" + digest("alone") + "', 8, 9, 'PNG', 10)"
        connection.exec_driver_sql(f"INSERT INTO image (sha256, width, height, format, bytes) VALUES {values}")
    return old
