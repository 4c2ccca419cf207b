"""Read manifests, which list images with their keys: one module per format, and what the formats share."""
