"""What the other packages share: settings, SQL tables, the run ledger, the queue, bundles, tasks and image decoding."""
