"""Find out whether this worker can work, before it takes batches and between them, and take it out if not."""
