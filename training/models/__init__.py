"""The networks that can be trained, one module per family."""
