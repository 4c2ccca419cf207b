"""The parts of `benchmarks.worker.fleet`: load, servers, workers, samples and results."""
