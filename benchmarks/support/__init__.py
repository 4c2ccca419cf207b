"""Modules that the benchmarks share: bundles, images, contenders and statistics."""
