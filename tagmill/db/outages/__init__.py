"""A database that does not answer: which errors waiting mends, and another server that takes its place."""
