"""Measure decoding, and what is found on pictures: patterns and text."""
