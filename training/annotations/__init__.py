"""Read labeled images, one module per format. Imports no torch."""
