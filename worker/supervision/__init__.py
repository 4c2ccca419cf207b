"""Keep a worker process alive and within its limits, and isolate images that crash it."""
