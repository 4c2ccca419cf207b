"""The commands that run models: `tagmill worker`, `tag`, `predict`, `bench` and `demo`."""
