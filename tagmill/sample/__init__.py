"""Draw a sample catalog of clothes with labels and masks; the same seed draws the same images."""
