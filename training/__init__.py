"""Makes checkpoints: one recipe per model family, each script read top to bottom."""
