"""The tasks of models, such as classification: one module holds everything that is specific to a task."""
