"""Read labeled images, one module per annotation format; imports no torch."""
