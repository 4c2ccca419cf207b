"""Finding images by their embeddings and hashes: the most similar ones, and duplicates."""
