"""Build the ONNX graph of a bundle from a trained network."""
