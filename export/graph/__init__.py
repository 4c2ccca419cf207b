"""From a trained network to the ONNX graph of a bundle."""
