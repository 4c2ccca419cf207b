"""Train a model and write a run folder: a checkpoint, its figures, a report and a model card."""
