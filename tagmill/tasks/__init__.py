"""The tasks of models, one module per task, and the conversion of masks."""
