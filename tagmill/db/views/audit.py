"""The SQL of the views of who did what: the audit log, and which versions were in production."""

from collections.abc import Iterator

#: in the order in which they can be dropped
AUDIT_VIEWS = ("model_production", "audit_log")

_AUDIT_LOG = """
CREATE VIEW audit_log AS
SELECT event.id, event.at, event.action, event.user_name, event.host, event.run_id,
    (SELECT model.name FROM model WHERE model.id = event.name_id) AS model,
    (SELECT model.version FROM model WHERE model.id = event.from_id) AS from_version,
    (SELECT model.version FROM model WHERE model.id = event.to_id) AS to_version,
    event.reason, event.details
FROM audit_event AS event
"""

# From each promotion or rollback until the next one of the same name.
_MODEL_PRODUCTION = """
CREATE VIEW model_production AS
SELECT model.name AS model, model.version, event.at AS since,
    lead(event.at) OVER (PARTITION BY event.name_id ORDER BY event.at, event.id) AS until,
    event.user_name, event.host, event.reason
FROM audit_event AS event
JOIN model ON model.id = event.to_id
WHERE event.action IN ('promote', 'rollback')
"""


def create_statements() -> Iterator[str]:
    """Yield the statements that create the views."""
    yield _AUDIT_LOG
    yield _MODEL_PRODUCTION
