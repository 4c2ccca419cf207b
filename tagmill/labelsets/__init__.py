"""Label sets: categories as vectors, which label the embeddings of a model by a matrix product."""
