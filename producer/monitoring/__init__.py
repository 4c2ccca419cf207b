"""How far the results of a run are from those of a reference run."""
