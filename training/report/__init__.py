"""The report of a training: figures, an HTML page and a model card."""
