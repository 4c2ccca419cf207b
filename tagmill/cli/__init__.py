"""The `tagmill` command: its entry point, its table of commands, and the kinds of their parameters."""
