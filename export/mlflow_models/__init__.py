"""MLflow's model registry as a source and a target of bundles; it is never needed when images are tagged."""
