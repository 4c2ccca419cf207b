"""The figures of a run from all of its images, and the choice of those that are shown."""
