"""The training scripts: one module per recipe, read from top to bottom; finish.py is the end of each."""
