"""The parts of `benchmarks.fleet`: load, servers, workers, samples and results."""
