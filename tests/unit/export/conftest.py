"""Fixtures of tests that train and export small networks."""

from support.trainings import figures, graphs_once, no_figures, one_registry

__all__ = ["figures", "graphs_once", "no_figures", "one_registry"]
