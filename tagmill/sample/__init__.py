"""A drawn sample catalog: images of clothes with labels and masks, the same for the same seed."""
