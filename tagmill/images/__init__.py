"""From the bytes of an image file to the pixels a model reads."""
