"""Measure the batch size and the threads that a bundle runs fastest with, for `tagmill bench`."""
