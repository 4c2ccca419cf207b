"""Read the bytes of an image from a local file or a URL, and recognize files that have not changed."""
