"""Label the images that have embeddings with label sets."""
