"""Submit the images of a catalog as a run of batches, and write the results of a run."""
