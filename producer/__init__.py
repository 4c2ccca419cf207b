"""Turn catalog folders and manifests into runs of batches, and write the results of a run."""
