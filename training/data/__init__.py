"""Decode labeled images into arrays, and split them. Imports no torch."""
