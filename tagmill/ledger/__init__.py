"""The run ledger: every write to `run`, `batch` and `run_image`, and how far a run is."""
