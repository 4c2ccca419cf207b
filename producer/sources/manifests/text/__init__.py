"""Manifests that are text: CSV, TSV and JSON Lines, with their delimiters, encodings and compression."""
