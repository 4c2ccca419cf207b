"""Bundles: models as self-describing ONNX files, with golden samples that a worker checks them with."""
