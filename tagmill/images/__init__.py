"""Decode the bytes of an image file, and fit the pixels to the input of a model."""
