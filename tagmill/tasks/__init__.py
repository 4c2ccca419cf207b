"""What depends on the task of a model: one module per task."""
