"""Write results: one module per format, and what formats share."""
