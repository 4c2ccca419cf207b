"""Bundles: one self-describing ONNX file each, with golden samples to check it by."""
