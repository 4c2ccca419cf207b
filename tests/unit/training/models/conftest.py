"""Fixtures of tests that train and export small networks."""

from support.trainings import figures, no_figures, one_registry

__all__ = ["figures", "no_figures", "one_registry"]
