"""What the others share: settings, SQL, the run ledger, the queue, bundles, tasks, images and the sample catalog."""
