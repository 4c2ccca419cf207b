"""The report of a run: one HTML page with its figures, charts, failures and images."""
