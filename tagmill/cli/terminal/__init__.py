"""What commands show on a terminal: tables, progress, standard output that may be closed."""
