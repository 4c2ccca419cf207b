"""The registered models: their rows in SQL and the folder that holds their bundles."""
