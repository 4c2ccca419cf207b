"""The producer's commands: `tagmill submit`, `tagmill run` and `tagmill results`."""
