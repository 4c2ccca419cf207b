"""What `tagmill exporter` says of all queues and workers together: metrics read from SQL and Redis."""
