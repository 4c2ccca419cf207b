"""Make a bundle of a graph that another tool exported."""
