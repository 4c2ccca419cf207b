"""Predict with a trained network, and calibrate it."""
