"""The commands `tagmill export`, `evaluate` and `model`."""
