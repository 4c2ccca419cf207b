"""The stages of a batch: fetch, decode and infer."""
