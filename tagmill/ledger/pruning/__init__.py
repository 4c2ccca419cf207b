"""Delete old runs, and images that nothing shows any more, while workers go on."""
