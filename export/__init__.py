"""Makes bundles out of checkpoints, proves parity with torch, and publishes them to the registry."""
