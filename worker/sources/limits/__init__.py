"""Limits of hosts that all workers of a queue keep together: requests under way, and requests per second."""
