"""The stages of a batch: skip known images, fetch, decode and infer."""
