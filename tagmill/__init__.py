"""What producer, worker, training and export share.

Settings, image decoding and preprocessing, tasks, bundles, the SQL database, the model registry, the run ledger, the
broker, the `tagmill` command, and the drawing of the sample catalog. It imports none of the other packages.
"""
