"""Data of a submission that does not fit into little memory, in temporary files."""
