"""How the answers of two models to the same images differ: figures, tables, a page with pictures."""
