"""The `tagmill` command: its entry point, its table of commands, and what all commands show and print with."""
