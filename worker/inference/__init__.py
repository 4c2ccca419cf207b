"""Load bundles and run them on ONNX Runtime or OpenVINO, with dynamic batching."""
