"""Export a checkpoint as a bundle, prove that it predicts the same, measure it, and register it."""
