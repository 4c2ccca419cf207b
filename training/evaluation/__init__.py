"""Predict with a trained network, and calibrate its scores."""
