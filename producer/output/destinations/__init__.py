"""Where results are written: standard output, a file, a folder, an object store."""
