"""Tag in this process, without servers: `tagmill tag`, `predict` and `demo`."""
