"""Fetch the bytes of an image from a file or a URL."""
