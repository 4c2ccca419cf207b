"""A sample catalog of drawn clothes with labels and masks; the same seed draws the same images."""
