"""The workers that run, and what waits for them."""
