"""The formats of image files: one module each, which returns the first frame or raises ImageFailure."""
