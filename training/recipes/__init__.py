"""The training scripts, one per recipe."""
