"""The training scripts, one module per recipe; each reads from top to bottom."""
