"""Read the sources of a run, such as a folder or a CSV manifest: one module per kind of source."""
