"""The garments of the sample catalog, one module per kind."""
