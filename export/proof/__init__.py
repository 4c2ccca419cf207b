"""Prove that a bundle predicts what its network predicts in torch."""
