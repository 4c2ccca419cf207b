"""Alembic migrations of the SQL tables, one file per schema version."""
