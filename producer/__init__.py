"""Hands catalog images out to the workers and the results back: manifests, submit, runs, results."""
