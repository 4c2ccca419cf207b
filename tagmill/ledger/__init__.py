"""The run ledger in SQL: every write to `run`, `batch` and `run_image`, and the progress of a run."""
