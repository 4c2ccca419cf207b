"""The SQL of the views of runs as a whole: state, progress, failures, cost and drift."""

from collections.abc import Iterator

from tagmill.db.schema import BatchStatus, RunState
from tagmill.priority import Priority

#: in the order in which they can be dropped
RUN_VIEWS = ("run_status", "run_progress", "run_failures", "run_cost", "run_drift")

_COUNTS = ", ".join(
    f"CAST(sum(CASE WHEN batch.status = '{status.value}' THEN 1 ELSE 0 END) AS BIGINT) AS {status.value}_batches"
    for status in BatchStatus
)
_WORDS = " ".join(f"WHEN {priority.value} THEN '{priority.word}'" for priority in Priority)
# The conditions of `tagmill.ledger.runs.progress.RunProgress.state`. Each part has at most one row for a run, so that
# PostgreSQL leaves out those that a query names no column of, and looks one run up by its index.
_STATUS = f"""
CREATE VIEW run_status AS
SELECT run.id AS run_id, run.source, run.queue, CASE run.priority {_WORDS} END AS priority,
    CASE WHEN coalesce(counted.images - counted.tagged - coalesce(failed.images, 0), 0) = 0 THEN 'done'
         WHEN run.state = '{RunState.PAUSED}' THEN 'paused'
         WHEN run.state = '{RunState.CANCELLED}' AND counted.running_batches = 0 THEN 'cancelled'
         WHEN counted.cancelled_batches > 0 AND counted.queued_batches + counted.running_batches = 0 THEN 'cancelled'
         WHEN counted.started_at IS NULL THEN 'queued' ELSE 'running' END AS state,
    named.models, run.submission, run.created_at, counted.started_at, counted.finished_at,
    coalesce(counted.images, 0) AS images, coalesce(counted.tagged, 0) AS tagged, coalesce(failed.images, 0) AS failed,
    {", ".join(f"coalesce(counted.{status.value}_batches, 0) AS {status.value}_batches" for status in BatchStatus)}
FROM run
LEFT JOIN (
    SELECT batch.run_id, CAST(sum(batch.images) AS BIGINT) AS images, CAST(sum(batch.tagged) AS BIGINT) AS tagged,
        min(batch.started_at) AS started_at, max(batch.finished_at) AS finished_at, {_COUNTS}
    FROM batch GROUP BY batch.run_id
) AS counted ON counted.run_id = run.id
LEFT JOIN (
    SELECT batch_failure.run_id, CAST(sum(batch_failure.images) AS BIGINT) AS images
    FROM batch_failure GROUP BY batch_failure.run_id
) AS failed ON failed.run_id = run.id
LEFT JOIN (
    SELECT run_model.run_id, {{joined}} AS models
    FROM run_model JOIN model ON model.id = run_model.model_id GROUP BY run_model.run_id
) AS named ON named.run_id = run.id
"""
_PROGRESS = """
CREATE VIEW run_progress AS
SELECT batch.run_id, batch.seq, batch.started_at, batch.finished_at, batch.finished_at - batch.started_at AS seconds,
    batch.images, batch.tagged, batch.inferences, batch.attempts, batch.cpu_seconds, batch.gpu_seconds,
    batch.bytes_fetched
FROM batch
WHERE batch.finished_at IS NOT NULL
"""
_FAILURES = """
CREATE VIEW run_failures AS
SELECT batch_failure.run_id, batch_failure.error_code, CAST(sum(batch_failure.images) AS BIGINT) AS images
FROM batch_failure
GROUP BY batch_failure.run_id, batch_failure.error_code
"""

# Batches that a retry emptied count, too: what they took was spent.
_COST = """
CREATE VIEW run_cost AS
SELECT batch.run_id,
    CAST(sum(CASE WHEN batch.finished_at IS NULL THEN 0 ELSE batch.images END) AS BIGINT) AS images,
    CAST(sum(batch.inferences) AS BIGINT) AS inferences,
    CAST(sum(batch.requests) AS BIGINT) AS requests,
    CAST(sum(batch.not_modified) AS BIGINT) AS not_modified,
    CAST(sum(batch.bytes_fetched) AS BIGINT) AS bytes_fetched,
    sum(batch.cpu_seconds) AS cpu_seconds,
    sum(batch.gpu_seconds) AS gpu_seconds,
    max(batch.finished_at) - min(batch.started_at) AS seconds,
    sum(CASE WHEN batch.finished_at IS NULL THEN 0 ELSE batch.images END)
        / nullif(max(batch.finished_at) - min(batch.started_at), 0) AS images_per_second
FROM batch
GROUP BY batch.run_id
"""

_DRIFT = """
CREATE VIEW run_drift AS
SELECT run_id, reference_id, model_name AS model, version, reference_version, number, kind, column_name, group_value,
    images, reference_images, failed, reference_failed, unknown_share, reference_unknown_share,
    label_share, reference_label_share, label_psi, label_chance, score_psi, score_chance, failed_psi, failed_chance,
    distance, distance_chance, threshold, max_distance, above, above <> '' AS drifted, created_at
FROM drift
"""


def create_statements(dialect: str) -> Iterator[str]:
    """Yield the statements that create the views, for PostgreSQL or SQLite."""
    one = "model.name || '@' || model.version"
    postgresql = dialect == "postgresql"
    yield _STATUS.format(
        joined=f"string_agg({one}, ', ' ORDER BY model.name, model.version)"
        if postgresql
        else f"group_concat({one}, ', ')"
    )
    yield _PROGRESS
    yield _FAILURES
    yield _COST
    yield _DRIFT
