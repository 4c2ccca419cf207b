"""Build the ONNX graph of a trained network."""
