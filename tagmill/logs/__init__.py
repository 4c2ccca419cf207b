"""The log of processes that run unattended: one object per line, with the worker and the batch in work."""
