"""Decode labeled images into arrays, and split them into training, validation and test; imports no torch."""
