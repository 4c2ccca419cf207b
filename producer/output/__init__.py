"""Read the results of a run from SQL and write them, one module per format."""
