"""What producer, worker, training and export share: settings, SQL tables, the run ledger, bundles, preprocessing."""
