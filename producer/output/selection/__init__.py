"""Which results are wanted, and what is known of them before the first one is read."""
