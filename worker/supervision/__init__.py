"""Restart a worker process that died, keep it within its limits, and isolate images that crash it."""
