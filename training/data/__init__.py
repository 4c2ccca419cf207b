"""Decode labelled images into arrays, and split them. Imports no torch."""
