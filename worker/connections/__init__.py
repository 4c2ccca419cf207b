"""Outlive a broker or database that is away."""
