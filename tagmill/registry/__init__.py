"""The model registry: rows in SQL, and a folder of bundles."""
