"""Write the report of a training: figures, an HTML page and a model card."""
