"""The commands `tagmill submit`, `tagmill run` and `tagmill results`."""
