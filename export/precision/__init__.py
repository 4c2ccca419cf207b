"""Lower the precision of a graph to float16 or 8 bits, within a measured loss."""
