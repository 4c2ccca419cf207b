"""Complete a batch: labels, masks, outcomes, what the catalog shows, and `done` in one transaction."""

import math
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Engine, bindparam, exists, select, update

from tagmill.db.any_of import any_of
from tagmill.db.bulk import insert_new, insert_new_returning, insert_rows, upsert_rows
from tagmill.db.connection import epoch_now
from tagmill.db.names import ids_of
from tagmill.db.schema import (
    LABELS,
    BatchStatus,
    activation_map,
    batch,
    batch_failure,
    batch_outcome,
    canary_entry,
    catalog_entry,
    embedding,
    further_label,
    image_content,
    image_failure,
    known_file,
    known_url,
    label_name,
    provider,
    result_mask,
    shown_instead,
)
from tagmill.db.schema import result as result_table
from tagmill.db.schema import worker as worker_name
from tagmill.db.types import hash_head
from tagmill.ledger import catalog
from tagmill.ledger.batches.leases import Claim
from tagmill.ledger.pictures.measures import attribute_ids, store_pictures
from tagmill.ledger.pruning.fence import FIRST_DELETION, NOTHING, Relied, completing, require_results
from tagmill.ledger.repeats.outcomes import store_images
from tagmill.outcomes import printable
from tagmill.records import BatchResult, Spent

# Only a running batch has an owner, so the condition on the claim's token fences the completion.
_FINISH = (
    update(batch)
    .where(completing(), batch.c.id == bindparam("batch"), batch.c.owner == bindparam("token"))
    .values(
        status=BatchStatus.DONE,
        owner=None,
        lease_until=None,
        error=None,
        finished_at=epoch_now(),
        tagged=bindparam("tagged_images"),
        inferences=bindparam("made"),
        **{found.name: bindparam(f"spent_{found.name}") for found in fields(Spent)},
    )
    .returning(batch.c.finished_at, batch.c.started_at, exists(select(shown_instead.c.model_id)).label("instead"))
)
_IMAGE_IDS = select(image_content.c.id, image_content.c.sha256, FIRST_DELETION.label("last_id")).where(
    any_of(hash_head(image_content.c.sha256), "shas")
)

# Columns of the rows that are written.
_IMAGE = ("sha256", "width", "height", "format", "bytes")
_FILE = ("identity", "image_id")
_URL = ("location", "image_id", "etag", "last_modified")
_REPLACE_URL = (
    "ON CONFLICT (location) DO UPDATE SET image_id = excluded.image_id, etag = excluded.etag, "
    "last_modified = excluded.last_modified"
)
_RESULT = (
    *("image_id", "model_id", "batch_id", "created_at", "provider_id", "worker_id"),
    *(f"label_{rank}" for rank in range(1, LABELS + 1)),
    *(f"score_{rank}" for rank in range(1, LABELS + 1)),
)
_LABEL = ("image_id", "model_id", "rank", "label_id", "score")
_MASK = (
    *("image_id", "model_id", "label_id", "rle", "height", "width"),
    *("area_share", "box_left", "box_top", "box_right", "box_bottom", "score"),
)
_VECTOR = ("image_id", "model_id", "vector")
_MAP = ("image_id", "model_id", "height", "width", "levels")
_FAILURE = ("run_id", "position", "batch_id", "error_code", "error_detail")
_CANARY = ("run_id", "position", "model_id", "point")
_COUNT = ("run_id", "batch_id", "error_code", "images")

_NO_LABELS: list[None] = [None] * LABELS


def complete(engine: Engine, claimed: Claim, result: BatchResult, worker: str) -> bool:
    """Write labels, masks, outcomes, what the catalog shows and `done` in one transaction.

    Return False and write nothing if another worker has claimed the batch in the meantime. Raise ResultsPrunedError and
    write nothing if it relies on a result that was deleted since its claim.
    """
    rows = _Rows(engine, claimed, result, worker)
    batch_id, tagged = claimed.batch_id, rows.tagged
    finish = {"batch": batch_id, "token": claimed.token, "tagged_images": len(tagged), "made": len(rows.answers)}
    finish |= {f"spent_{name}": value for name, value in asdict(result.spent).items()}
    with engine.begin() as connection:
        finished = connection.execute(_FINISH, finish).one_or_none()
        if finished is None:
            return False
        now = finished.finished_at
        # Rows that other batches may also write are sorted: two transactions that write the same rows then wait for
        # each other instead of deadlocking.
        inserted = insert_new_returning(connection, image_content, _IMAGE, rows.images, ("sha256", "id"))
        ids = {bytes(sha256).hex(): number for sha256, number in inserted}
        fresh, stored_again = set(ids.values()), set(ids)
        if missing := [sha256 for sha256 in rows.shas if sha256 not in ids]:
            found = connection.execute(_IMAGE_IDS, {"shas": missing, "started": finished.started_at}).all()
            ids |= {row.sha256: row.id for row in found}
            stored_again |= {row.sha256 for row in found if row.last_id is not None and row.id > row.last_id}
        if rows.relied and not rows.relied.keys() <= ids.keys() - stored_again:
            require_results(connection, rows.relied, ids, stored_again, claimed.measuring)

        # Nobody else can write a result of an image that this transaction inserted.
        keys = {key: (ids[key[0]], key[1]) for key in rows.answers}
        answers = sorted((*keys[key], batch_id, now, *values) for key, values in rows.answers.items())
        insert_rows(connection, result_table, _RESULT, [row for row in answers if row[0] in fresh])
        # A result that another worker wrote for the same bytes stays as it is.
        others = [row for row in answers if row[0] not in fresh]
        made = set(insert_new_returning(connection, result_table, _RESULT, others, ("image_id", "model_id")))
        written = {key: at for key, at in keys.items() if at[0] in fresh or at in made}
        if len(written) != len(answers):
            connection.execute(update(batch).where(batch.c.id == batch_id).values(inferences=len(written)))
        further = [(*at, *values) for key, at in written.items() for values in rows.further.get(key, ())]
        insert_rows(connection, further_label, _LABEL, further)
        masks = [(*at, *values) for key, at in written.items() for values in rows.masks.get(key, ())]
        insert_rows(connection, result_mask, _MASK, masks)
        vectors = [(*at, rows.vectors[key]) for key, at in written.items() if key in rows.vectors]
        insert_rows(connection, embedding, _VECTOR, vectors)
        maps = [(*at, *rows.maps[key]) for key, at in written.items() if key in rows.maps]
        insert_rows(connection, activation_map, _MAP, maps)
        if rows.pictures:
            store_pictures(connection, rows.pictures, ids)
        files = sorted({file.identity: ids[file.sha256] for file in result.files}.items())
        insert_new(connection, known_file, _FILE, files)
        urls = {url.location: (ids[url.sha256], url.etag, url.last_modified) for url in result.urls}
        upsert_rows(connection, known_url, _URL, [(at, *urls[at]) for at in sorted(urls)], _REPLACE_URL)

        image_ids = [ids[tagged[at.position]] if at.position in tagged else None for at in claimed.images]
        insert_new(connection, batch_outcome, ("batch_id",), [(batch_id,)], {"image_ids": image_ids})
        if claimed.has_repeats:
            tagged_firsts = {at: ids[sha256] for at, sha256 in tagged.items() if at not in claimed.repeated}
            store_images(connection, claimed.run_id, tagged_firsts)
        insert_rows(connection, image_failure, _FAILURE, rows.failures)
        insert_rows(connection, batch_failure, _COUNT, rows.failure_counts)

        insert_new(connection, canary_entry, _CANARY, rows.canary_rows)

        shown = sorted(
            (at.image_key, at.position, image) for at, image in zip(claimed.images, image_ids, strict=True) if image
        )
        image_keys = [image_key for image_key, _, _ in shown]
        for model in claimed.pinned:
            mine = shown
            if model.place:  # only where the newest version, which was written before, shows this run
                asked = {"run": claimed.run_id, "name": model.name_id, "keys": image_keys}
                ours = set(connection.execute(catalog.SHOWN_BY, asked).scalars())
                mine = [row for row in shown if row[0] in ours]
            same = {"run_id": claimed.run_id, "name_id": model.name_id, "place": model.place}
            same["changed_at"] = math.ceil(now)
            if tried := rows.canaries.get(model.name_id):  # one statement, for rows in the order of their keys
                columns, of_each = (*catalog.COLUMNS, "model_id"), [(*row, tried.get(row[1], model.id)) for row in mine]
                upsert_rows(connection, catalog_entry, columns, of_each, catalog.REPLACE, same)
            else:
                same["model_id"] = model.id
                upsert_rows(connection, catalog_entry, catalog.COLUMNS, mine, catalog.REPLACE, same)
        names = sorted({model.name_id for model in claimed.pinned})
        connection.execute(catalog.OLDER_VERSIONS, {"run": claimed.run_id, "names": names, "keys": image_keys})
        if finished.instead and made:
            # Of bytes that other keys show, too, a result that is shown instead of theirs.
            seen = {"images": sorted({image for image, _ in made}), "models": sorted({version for _, version in made})}
            connection.execute(catalog.MARK_CHANGED, seen | {"now": math.ceil(now)})
    return True


class _Rows:
    """The values to write for a batch, but for the ids of images: they are made before the transaction begins."""

    def __init__(self, engine: Engine, claimed: Claim, result: BatchResult, worker: str) -> None:
        labels, providers = ids_of(engine, label_name), ids_of(engine, provider)
        models = {found.sha256: found.id for found in claimed.pinned}
        models |= {trial.rollout.sha256: trial.rollout.model_id for trial in claimed.trials}
        worker_id, batch_id = ids_of(engine, worker_name)[worker], claimed.batch_id
        #: position -> sha256
        self.tagged = {at.position: at.sha256 for at in result.outcomes if not at.error_code and at.sha256}
        self.images = sorted({(row.sha256, row.width, row.height, row.format, row.bytes) for row in result.images})
        #: (image sha256, model id) -> values of `_RESULT` from its fifth on
        self.answers: dict[tuple[str, int], tuple[Any, ...]] = {}
        #: the same key -> values of `_LABEL`, `_MASK`, `_VECTOR` and `_MAP` from their third on
        self.further: dict[tuple[str, int], list[tuple[Any, ...]]] = {}
        self.masks: dict[tuple[str, int], list[tuple[Any, ...]]] = {}
        self.vectors: dict[tuple[str, int], Any] = {}
        self.maps: dict[tuple[str, int], tuple[int, int, bytes]] = {}
        for row in result.inferences:
            key, best = (row.image_sha256, models[row.model_sha256]), row.labels[:LABELS]
            empty = _NO_LABELS[len(best) :]
            names, scores = [labels[text] for text, _ in best], [score for _, score in best]
            self.answers[key] = (providers[row.provider], worker_id, *names, *empty, *scores, *empty)
            if row.labels[LABELS:]:
                ranked = enumerate(row.labels[LABELS:], LABELS + 1)
                self.further[key] = [(rank, labels[text], score) for rank, (text, score) in ranked]
            if row.embedding is not None:
                self.vectors[key] = row.embedding
            if row.activation_map is not None:
                self.maps[key] = (*row.activation_map.shape, row.activation_map.tobytes())
            if row.masks:
                self.masks[key] = [
                    (labels[m.label], m.rle, m.height, m.width, m.area_share, *m.box, m.score) for m in row.masks
                ]
        #: what was measured, with numbers for the names of attributes
        self.pictures = [(row, attribute_ids(labels, row)) for row in result.pictures]
        self.canary_rows = [(claimed.run_id, at.position, at.model_id, at.point) for at in result.canaries]
        #: name_id -> position -> id of the canary that is shown
        self.canaries: dict[int, dict[int, int]] = {}
        name_of = {trial.rollout.model_id: trial.rollout.name_id for trial in claimed.trials}
        shown = {(self.tagged[at.position], at.model_id) for at in result.canaries}
        for at in result.canaries:
            self.canaries.setdefault(name_of[at.model_id], {})[at.position] = at.model_id
        #: the images that need an id
        self.shas = {*self.tagged.values(), *(sha256 for sha256, _ in self.answers)}
        measured = {row.image_sha256 for row in result.pictures} if claimed.measuring else self.shas
        #: what the images need that was made before
        self.relied = {
            sha256: found
            for sha256 in {*self.tagged.values()}
            if (found := self._relied(claimed, sha256, shown, sha256 in measured)) != NOTHING
        }
        failed = [outcome for outcome in result.outcomes if outcome.error_code]
        # A detail may quote bytes of the image: one character that SQL refuses would fail the whole batch.
        self.failures = [
            (claimed.run_id, at.position, batch_id, at.error_code, at.error_detail and printable(at.error_detail))
            for at in failed
        ]
        counts = Counter(at.error_code for at in failed)
        self.failure_counts = [(claimed.run_id, batch_id, *found) for found in counts.items()]

    def _relied(self, claimed: Claim, sha256: str, canaries: Collection[tuple[str, int]], measured: bool) -> Relied:
        needed = [found.id for found in claimed.pinned]
        needed += [found.rollout.model_id for found in claimed.trials if (sha256, found.rollout.model_id) in canaries]
        return Relied(tuple(found for found in needed if (sha256, found) not in self.answers), not measured)
