"""The commands `tagmill export`, `tagmill evaluate` and `tagmill model`."""
