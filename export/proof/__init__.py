"""Prove that a bundle gives the answers of the network it was made from."""
