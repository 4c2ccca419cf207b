"""Read what a producer submits: folders and manifests, one module per kind."""
