"""The SQL tables, one module per subject; `tagmill.db.schema` has them all."""
