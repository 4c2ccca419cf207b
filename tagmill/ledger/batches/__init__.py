"""Who has a batch: leases, attempts, what the reaper finds lost."""
