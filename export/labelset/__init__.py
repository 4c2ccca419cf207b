"""Create label sets of example images, of keys of the catalog, or of vectors."""
