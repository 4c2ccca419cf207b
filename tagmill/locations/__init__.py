"""Where images and manifests may be, and what of a location is shown."""
