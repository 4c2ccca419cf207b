"""Measure pictures: hash, background, product, sharpness, colors, pattern and text."""
