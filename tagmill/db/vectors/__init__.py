"""Embeddings in SQL: how they are stored and read, and what pgvector offers."""
