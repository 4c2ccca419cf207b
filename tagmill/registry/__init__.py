"""The model registry: models as rows in SQL, and the folder with their bundles."""
