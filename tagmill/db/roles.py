"""What workers, producers and readers may do in PostgreSQL, each with a role of its own."""

from collections.abc import Sequence
from enum import StrEnum

from sqlalchemy import Connection, text

from tagmill.db.schema import metadata
from tagmill.db.views.create import VIEWS
from tagmill.errors import ConfigurationError

#: what people read
READ_VIEWS = (
    *("catalog_labels", "catalog_masks", "catalog_changes", "catalog_embeddings", "catalog_duplicates"),
    *("catalog_pictures", "catalog_attributes", "catalog_violations", "run_pictures", "run_violations"),
    *("run_image", "run_cost", "run_drift", "run_duplicates"),
    *("run_status", "run_progress", "run_failures"),
    *("audit_log", "model_production"),
)
#: what `tagmill exporter` and autoscalers count
READ_TABLES = ("run", "batch", "run_fault", "worker_fault", "worker_state")
#: what only submitting and registering writes
_SUBMITTED = {
    "run_model": "INSERT",
    "entry": "INSERT",
    "repeated_entry": "INSERT",
    "model": "INSERT, UPDATE",
    "picture_rule": "INSERT, UPDATE, DELETE",
    "label_name": "INSERT",
    "duplicate_image": "INSERT, DELETE",
    "drift": "INSERT, DELETE",
    "rollout": "INSERT, UPDATE, DELETE",
    "shown_instead": "INSERT, UPDATE, DELETE",
    "worker_state": "UPDATE",
}
#: what `tagmill labelset` writes
_LABELED = {
    "label_set": "INSERT",
    "label_set_run": "INSERT, UPDATE, DELETE",
    "result": "INSERT",
    "catalog_entry": "INSERT, UPDATE",
    "provider": "INSERT",
    "worker": "INSERT",
}
#: what `tagmill run` changes, and the reaper, which does the same
_CHANGED = {
    "run": "INSERT, UPDATE",
    "batch": "INSERT, UPDATE",
    "batch_failure": "INSERT, UPDATE, DELETE",
    "image_failure": "INSERT, DELETE",
    "run_fault": "INSERT, UPDATE, DELETE",
    "audit_event": "INSERT",
}
#: what only the results of a batch, and the state of workers, are written to
_COMPLETED = {
    "batch_outcome": "INSERT",
    "image_content": "INSERT",
    "result": "INSERT",
    "further_label": "INSERT",
    "result_mask": "INSERT",
    "embedding": "INSERT",
    "activation_map": "INSERT",
    "picture": "INSERT, UPDATE",
    "picture_attribute": "INSERT, DELETE",
    "known_file": "INSERT",
    "known_url": "INSERT, UPDATE",
    "repeated_image": "INSERT",
    "catalog_entry": "INSERT, UPDATE, DELETE",
    "label_name": "INSERT",
    "provider": "INSERT",
    "worker": "INSERT",
    "reaper": "INSERT, UPDATE",
    "worker_fault": "INSERT, UPDATE, DELETE",
    "worker_state": "INSERT, UPDATE, DELETE",
    "canary_entry": "INSERT, DELETE",
}


class Kind(StrEnum):
    """What a role is for."""

    #: takes batches and writes their results
    WORKER = "worker"
    #: registers models and label sets, submits and changes runs, reads results
    PRODUCER = "producer"
    #: reads the views, and what monitoring counts
    READER = "reader"


#: the rights of a role beside reading all tables
_WRITES = {
    Kind.WORKER: _CHANGED | {"run": "UPDATE", "batch": "UPDATE"} | _COMPLETED,
    Kind.PRODUCER: _CHANGED | _SUBMITTED | _LABELED,
}


def grant_role(connection: Connection, kind: Kind, role: str) -> None:
    """Give a role what its kind needs in the tables and views of Tagmill, and take everything else there from it.

    Raise ConfigurationError if there is no such role, or if the database is not PostgreSQL.
    """
    if connection.dialect.name != "postgresql":
        raise ConfigurationError("SQLite has no roles; leave --worker, --producer and --reader out")
    if not connection.execute(text("SELECT FROM pg_roles WHERE rolname = :role"), {"role": role}).all():
        raise ConfigurationError(f"no role {role}; create it: CREATE ROLE {role} LOGIN PASSWORD '...'")
    to = connection.dialect.identifier_preparer.quote_identifier(role)
    tables = [*metadata.tables, "alembic_version"]
    connection.exec_driver_sql(f"REVOKE ALL ON {', '.join([*tables, *VIEWS])} FROM {to}")
    if kind is Kind.READER:
        connection.exec_driver_sql(f"GRANT SELECT ON {', '.join([*READ_VIEWS, *READ_TABLES])} TO {to}")
        return
    connection.exec_driver_sql(f"GRANT SELECT ON {', '.join([*tables, *VIEWS])} TO {to}")
    for table, rights in _WRITES[kind].items():
        connection.exec_driver_sql(f"GRANT {rights} ON {table} TO {to}")
    if sequences := _sequences(connection, list(_WRITES[kind])):
        connection.exec_driver_sql(f"GRANT USAGE ON SEQUENCE {', '.join(sequences)} TO {to}")


def missing_rights(connection: Connection, kind: Kind) -> list[str]:
    """Return what the role that is logged in lacks for its kind in PostgreSQL, such as `INSERT on result`."""
    wanted = [(table, "SELECT") for table in metadata.tables]
    wanted += [(table, right) for table, rights in _WRITES[kind].items() for right in rights.split(", ")]
    # A list of pairs as two arrays: one round trip.
    asked = text("""
        SELECT wanted.name, wanted.privilege FROM unnest(CAST(:tables AS text[]), CAST(:rights AS text[]))
            AS wanted (name, privilege)
        WHERE NOT has_table_privilege(wanted.name, wanted.privilege) ORDER BY 1, 2
    """)
    pairs = {"tables": [table for table, _ in wanted], "rights": [right for _, right in wanted]}
    return [f"{right} on {table}" for table, right in connection.execute(asked, pairs)]


def owns_tables(connection: Connection) -> bool:
    """Return whether the role that is logged in may change the tables of PostgreSQL, as their owner may."""
    owner = text("SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = CAST('run' AS regclass)")
    return bool(connection.execute(owner).scalar_one())


def _sequences(connection: Connection, tables: Sequence[str]) -> list[str]:
    """Return the sequences that number the rows of these tables."""
    owned = text("""
        SELECT DISTINCT pg_depend.objid::regclass::text FROM pg_depend JOIN pg_class ON pg_class.oid = pg_depend.objid
        WHERE pg_class.relkind = 'S' AND pg_depend.refobjid = ANY (CAST(:tables AS regclass[]))
    """)
    return list(connection.execute(owned, {"tables": list(tables)}).scalars())
