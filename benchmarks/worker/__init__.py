"""Measure one worker and many: images over the network, CPU, memory, waiting and metrics."""
