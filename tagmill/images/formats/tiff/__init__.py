"""TIFF: read the tags, decide whether the layout is one that is read, and turn its samples into pixels."""
