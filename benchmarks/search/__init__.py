"""Measure embeddings, and the search for similar images and duplicates."""
