"""Tag in this process, with no servers: `tagmill tag`, `predict` and `demo`."""
