"""Read the results of a run and write them, one module per format."""
