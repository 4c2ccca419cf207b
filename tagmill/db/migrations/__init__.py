"""Alembic migrations of the SQL tables."""
