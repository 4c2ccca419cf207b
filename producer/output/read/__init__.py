"""Read results from SQL in pages: the only modules of the producer that know the tables."""
