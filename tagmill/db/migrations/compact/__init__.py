"""The migration from schema 0004 to 0005, in chunks beside workers: its steps, tables and statements are frozen."""
