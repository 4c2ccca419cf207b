"""Load a bundle and run it: sessions, the inference backends, and dynamic batching."""
