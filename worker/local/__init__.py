"""Tag in the process of one command, with no servers: `tagmill tag`, `predict` and `demo`."""
