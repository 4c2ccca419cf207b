"""What Python programs import from `producer`: submit runs, wait for them, read their results."""
