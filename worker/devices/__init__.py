"""The devices that run inference: their names, their checks, CUDA libraries, GPU threads and pinned memory."""
