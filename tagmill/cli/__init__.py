"""The `tagmill` command: its entry point, its table of commands, and what the commands show on a terminal."""
