"""The stages of a batch; each takes and returns a list of `BatchImage`."""
