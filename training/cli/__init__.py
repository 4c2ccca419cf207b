"""The command `tagmill train`."""
