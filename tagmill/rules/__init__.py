"""Rules that pictures are checked with, as data files, and the built-in sets for marketplaces."""
