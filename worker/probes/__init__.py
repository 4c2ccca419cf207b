"""What a worker says of itself over HTTP: metrics, whether it lives, and whether it can take batches."""
