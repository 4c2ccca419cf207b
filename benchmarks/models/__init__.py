"""Measure networks and label sets."""
