"""The `tagmill` command: its entry point, its table of commands, and the output that commands share."""
