"""Other tools, each used as its own documentation shows."""
