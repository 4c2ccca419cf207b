"""The devices that inference runs on: names, checks, CUDA libraries, threads and memory."""
