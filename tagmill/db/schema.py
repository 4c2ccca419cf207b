"""All SQL tables, from the modules of `tagmill.db.tables`: whoever uses tables imports them from here.

Times are Unix seconds by the database's own clock; see `tagmill.db.connection.epoch_now`.

Columns that every image has are ordered by size and hold numbers instead of names: a row of PostgreSQL has 24 bytes of
header, and its columns are aligned. The tables of images and results have no foreign keys: one transaction writes a
row together with those that it names, nothing deletes them singly, and checking them took half of PostgreSQL's time.
People read the views (`tagmill/db/views/`), which show names and hashes as text.
"""

from tagmill.db.tables.audit import audit_event
from tagmill.db.tables.base import metadata
from tagmill.db.tables.batches import UNPUBLISHED, BatchStatus, batch, batch_failure, batch_outcome, reaper
from tagmill.db.tables.catalog import canary_entry, catalog_entry, shown_change, shown_entry
from tagmill.db.tables.entries import entry, image_failure, repeated_entry, repeated_image
from tagmill.db.tables.images import image_content, image_pruning, known_file, known_url
from tagmill.db.tables.models import label_set, model, rollout, shown_instead
from tagmill.db.tables.pictures import duplicate_image, picture, picture_attribute, picture_rule
from tagmill.db.tables.results import (
    INDEXED_SCORE,
    LABELS,
    activation_map,
    embedding,
    further_label,
    label_name,
    provider,
    result,
    result_mask,
    worker,
)
from tagmill.db.tables.runs import RunState, drift, label_set_run, run, run_model
from tagmill.db.tables.workers import run_fault, worker_fault, worker_state

__all__ = [
    "INDEXED_SCORE",
    "LABELS",
    "UNPUBLISHED",
    "BatchStatus",
    "RunState",
    "activation_map",
    "audit_event",
    "batch",
    "batch_failure",
    "batch_outcome",
    "canary_entry",
    "catalog_entry",
    "drift",
    "duplicate_image",
    "embedding",
    "entry",
    "further_label",
    "image_content",
    "image_failure",
    "image_pruning",
    "known_file",
    "known_url",
    "label_name",
    "label_set",
    "label_set_run",
    "metadata",
    "model",
    "picture",
    "picture_attribute",
    "picture_rule",
    "provider",
    "reaper",
    "repeated_entry",
    "repeated_image",
    "result",
    "result_mask",
    "rollout",
    "run",
    "run_fault",
    "run_model",
    "shown_change",
    "shown_entry",
    "shown_instead",
    "worker",
    "worker_fault",
    "worker_state",
]
