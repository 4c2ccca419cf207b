"""The rows of runs: create, retry, publish, control and count them."""
