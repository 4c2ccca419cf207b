"""A drawn sample catalog: pictures of clothes with labels and masks, the same for the same seed."""
