"""Parquet manifests, read column by column, and the images inside them."""
