"""The devices that inference runs on: names, checks, CUDA libraries, GPU threads and pinned memory."""
