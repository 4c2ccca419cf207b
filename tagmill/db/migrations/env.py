"""Runs the migrations on the connection that `tagmill.db.migrate.upgrade` hands in."""

from alembic import context

from tagmill.db.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
