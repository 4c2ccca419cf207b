"""The run ledger in SQL: runs, leases, completion, the catalog, the reaper, and the progress of a run."""
