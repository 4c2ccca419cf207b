"""Read labelled images, one module per format. Imports no torch."""
