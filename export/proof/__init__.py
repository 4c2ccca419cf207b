"""Prove that a bundle predicts what the trained network predicts."""
