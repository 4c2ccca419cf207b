"""Read sources in object stores and on file systems of other machines: prefixes, patterns, manifests and images."""
