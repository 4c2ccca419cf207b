"""What the benchmarks share: bundles, pictures, contenders and statistics."""
