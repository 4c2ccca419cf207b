"""The commands of an ingestion job: `tagmill submit`, `run` and `results`."""
